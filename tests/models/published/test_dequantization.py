"""Published int8 and int4 weights, bit by bit."""

import numpy as np
import pytest
import torch

from glm_experiments.models import load_model
from glm_experiments.models.published.dequantization import (
    cpm_kernels_problem,
    dequantize_weight,
    unpack_int4,
)
from tests.models.tiny_checkpoints import published_tensors, write_published


def nibble(value: int) -> int:
    return value - 16 if value > 7 else value


def test_every_byte_unpacks_to_its_signed_nibbles_high_first():
    packed = torch.arange(256, dtype=torch.int16).to(torch.uint8).view(torch.int8)[None]
    expected = [nibble(part) for byte in range(256) for part in (byte >> 4, byte & 15)]
    assert unpack_int4(packed).tolist() == [expected]
    assert unpack_int4(packed.view(torch.uint8)).tolist() == [expected]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_values_are_quotients_times_scales_rounded_once(dtype):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-128, 128, (64, 40), dtype=torch.int8, generator=generator)
    scale = (torch.rand(64, generator=generator) / 127).half()
    found = dequantize_weight(weight, scale, bits=8, dtype=dtype, method="torch")
    exact = weight.numpy().astype(np.float64) * scale.numpy().astype(np.float64)[:, None]
    assert found.dtype is dtype
    assert torch.equal(found, torch.from_numpy(exact).to(dtype))
    if dtype is torch.float16:  # what the published kernels compute
        assert torch.equal(found, weight.half() * scale[:, None])


@pytest.mark.parametrize("bits", [8, 4])
def test_a_quantised_checkpoint_loads_as_its_values(tmp_path, bits):
    tensors = published_tensors()
    expected = {}
    for name in [name for name in tensors if ".layers." in name and tensors[name].ndim == 2]:
        largest = 2 ** (bits - 1) - 1
        scale = (tensors[name].abs().amax(dim=1) / largest).half()
        quotients = (tensors[name] / scale[:, None]).round().clamp(-largest, largest)
        expected[name] = quotients * scale.float()[:, None]
        stored = quotients.to(torch.int8)
        if bits == 4:
            stored = (stored[:, 0::2] << 4) | (stored[:, 1::2] & 15)
        tensors |= {name: stored, f"{name}_scale": scale}
    model = load_model(write_published(tmp_path, tensors=tensors, quantization_bit=bits))
    layer = model.model.layers[2]
    prefix = "transformer.encoder.layers.2"
    assert torch.equal(layer.mlp.down_proj.weight, expected[f"{prefix}.mlp.dense_4h_to_h.weight"])
    fused = expected[f"{prefix}.self_attention.query_key_value.weight"]
    assert torch.equal(layer.self_attn.v_proj.weight, fused[48:])
    assert layer.mlp.down_proj.weight.requires_grad


@pytest.mark.parametrize("capability", [(6, 1), (7, 5), (8, 0), (8, 6)])
def test_cpm_kernels_has_code_for(capability):
    assert cpm_kernels_problem(capability) is None


@pytest.mark.parametrize("capability", [(6, 0), (8, 9), (9, 0), (10, 0)])
def test_cpm_kernels_has_no_code_for(capability):
    problem = cpm_kernels_problem(capability)
    assert "6.1 to 8.6 only and no PTX" in problem
    assert f"this device has {capability[0]}.{capability[1]}" in problem


@pytest.mark.gpu
def test_cpm_kernels_is_used_or_refused_on_this_gpu(tmp_path):
    tensors = published_tensors()
    name = "transformer.encoder.layers.0.mlp.dense_4h_to_h.weight"
    tensors |= {name: torch.ones(32, 48).to(torch.int8), f"{name}_scale": torch.ones(32).half()}
    write_published(tmp_path, tensors=tensors, quantization_bit=8)
    options = {"device_map": "cuda:0", "dtype": torch.float16}
    if cpm_kernels_problem(torch.cuda.get_device_capability(0)):
        with pytest.raises(RuntimeError, match=r"cannot run on .* 6\.1 to 8\.6 only"):
            load_model(tmp_path, dequantize="cpm_kernels", **options)
        return
    found = load_model(tmp_path, dequantize="cpm_kernels", **options).state_dict()
    expected = load_model(tmp_path, **options).state_dict()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
