"""What loading costs the host: the model and little more than one weight file."""

import subprocess
import sys
import textwrap

import pytest
import torch

from tests.models.tiny_checkpoints import PUBLISHED, published_tensors, write_published

ALLOCATOR_BYTES = 32e6
"""What malloc keeps of freed blocks below its threshold, which full-size tensors are not."""
SIZES = {
    "padded_vocab_size": 8000,
    "hidden_size": 1024,
    "ffn_hidden_size": 2816,
    "kv_channels": 64,
    "num_attention_heads": 16,
    "num_layers": 6,
}


def measure_loading(folder, tiny) -> tuple[int, int]:
    """Peak of resident memory above what it was, and bytes of the model, in a fresh process."""
    script = f"""
        import re, torch
        from pathlib import Path
        from glm_experiments.models import load_model

        def read(field):
            status = Path("/proc/self/status").read_text()
            return int(re.search(field + r":\\s+(\\d+) kB", status)[1]) * 1024

        load_model({str(tiny)!r})
        Path("/proc/self/clear_refs").write_text("5")  # restart the peak
        before = read("VmRSS")
        model = load_model({str(folder)!r}, dtype=torch.float16)
        print(read("VmHWM") - before, sum(p.nbytes for p in model.parameters()))
    """
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    peak, size = found.stdout.split()
    return int(peak), int(size)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_peak_is_the_model_and_one_shard(tmp_path, suffix):
    settings = PUBLISHED | SIZES
    tensors = {name: tensor.half() for name, tensor in published_tensors(settings).items()}
    write_published(tmp_path / "large", num_shards=4, suffix=suffix, tensors=tensors, **SIZES)
    del tensors
    tiny = write_published(tmp_path / "tiny", suffix=suffix)
    largest = max(file.stat().st_size for file in (tmp_path / "large").glob(f"*{suffix}"))
    peak, size = measure_loading(tmp_path / "large", tiny)
    assert size > 150e6
    assert largest < size / 3
    assert size < peak <= size + 1.2 * largest


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_dequantising_holds_one_tensor_more(tmp_path):
    settings = PUBLISHED | SIZES
    tensors = published_tensors(settings)
    for name in [name for name in tensors if ".layers." in name and tensors[name].ndim == 2]:
        rows, columns = tensors[name].shape
        tensors[name] = torch.ones(rows, columns // 2, dtype=torch.int8)
        tensors[f"{name}_scale"] = torch.ones(rows).half()
    tensors = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }
    write_published(tmp_path / "large", tensors=tensors, quantization_bit=4, **SIZES)
    tiny = write_published(tmp_path / "tiny")
    peak, size = measure_loading(tmp_path / "large", tiny)
    file = (tmp_path / "large" / "model.safetensors").stat().st_size
    assert file < size / 2
    assert size < peak <= size + 1.2 * file + ALLOCATOR_BYTES
