"""Where the parts of a model go, and what a device can compute in."""

import pytest
import torch
from transformers import GlmConfig, GlmForCausalLM

from glm_experiments.models import devices
from glm_experiments.models.devices import (
    check_dtype,
    dtype_problem,
    find_device,
    plan_device_map,
)
from tests.models.tiny_checkpoints import GEOMETRY

CPU, META = torch.device("cpu"), torch.device("meta")


def build(**changes):
    with torch.device("meta"):
        return GlmForCausalLM(GlmConfig(**GEOMETRY, **changes))


def plan(device_map, **changes):
    return plan_device_map(build(**changes), device_map, dtype=torch.float32)


@pytest.mark.parametrize("device_map", [None, "cpu", CPU, {"": "cpu"}])
def test_one_device_takes_the_whole_model(device_map):
    assert plan(device_map) == {"": CPU}


def test_the_nearest_named_part_decides():
    device_map = plan({"": "cpu", "model.layers.1": "meta", "model.layers.1.mlp": "cpu"})
    assert find_device("model.layers.1.self_attn.q_proj.weight", device_map) == META
    assert find_device("model.layers.1.mlp.down_proj.weight", device_map) == CPU
    assert find_device("model.rotary_emb", device_map) == CPU


def test_entries_inside_entries_are_taken_apart():
    device_map = plan({"": "cpu", "model.layers.1": "meta"})
    assert "" not in device_map
    assert device_map["model.layers.1"] == META
    assert {device for part, device in device_map.items() if part != "model.layers.1"} == {CPU}


def test_a_tied_head_stays_with_the_embedding():
    device_map = plan({"": "cpu", "lm_head": "meta"}, tie_word_embeddings=True)
    assert device_map["lm_head"] == CPU
    assert plan({"": "cpu", "lm_head": "meta"})["lm_head"] == META


def test_what_has_no_entry_goes_where_inputs_arrive():
    parts = ["lm_head", "model.norm", "model.layers", "model.embed_tokens"]
    device_map = plan(dict.fromkeys(parts[:3], "meta") | {"model.embed_tokens": "cpu"})
    assert next(iter(device_map)) == "model.embed_tokens"
    assert find_device("model.rotary_emb", device_map) == CPU


def test_unknown_and_left_out_parts_are_named():
    with pytest.raises(ValueError, match=r"names model\.layers\.9, which GlmForCausalLM.*lm_head"):
        plan({"": "cpu", "model.layers.9": "cpu"})
    with pytest.raises(ValueError, match=r"leaves out model\.layers\.2, lm_head; give each"):
        plan(
            dict.fromkeys(["model.embed_tokens", "model.norm"], "cpu")
            | {f"model.layers.{index}": "cpu" for index in range(2)}
        )


def test_devices_that_do_not_exist_are_named():
    count = torch.cuda.device_count()
    with pytest.raises(RuntimeError, match=rf"no cuda:{count}; this machine shows {count} CUDA"):
        plan(count)
    with pytest.raises(ValueError, match="'gpu' is no device; use cpu, cuda"):
        plan("gpu")
    with pytest.raises(ValueError, match="'xla' cannot hold a model here"):
        plan({"": "xla"})


@pytest.mark.skipif(torch.cuda.is_available(), reason="for a machine without CUDA")
def test_automatic_means_the_cpu_where_there_is_no_gpu():
    assert plan("auto") == {"": CPU}


def test_bfloat16_needs_ampere():
    problem = dtype_problem(torch.bfloat16, "cuda", capability=(7, 5))
    assert problem is not None
    assert "compute capability 8.0, this device has 7.5; use model.dtype=float16" in problem
    assert dtype_problem(torch.bfloat16, "cuda", capability=(8, 0)) is None
    assert dtype_problem(torch.float16, "cuda", capability=(7, 0)) is None
    assert dtype_problem(torch.bfloat16, "cpu", capability=None) is None


def test_only_floating_point_of_16_bits_or_more():
    for dtype in (torch.int8, torch.float8_e4m3fn):
        with pytest.raises(ValueError, match=rf"cannot be loaded in {dtype}; use"):
            check_dtype(dtype)


@pytest.mark.parametrize(
    ("names", "dtype"),
    [
        (["cpu"], torch.bfloat16),
        (["cuda:0"], torch.bfloat16),
        (["cuda:1"], torch.float16),
        (["cuda:0", "cuda:1"], torch.float16),
        (["cuda:0", "cpu"], torch.bfloat16),
    ],
)
def test_a_16_bit_model_is_in_what_every_device_has(names, dtype, monkeypatch):
    # The second is a V100 or a T4.
    monkeypatch.setattr(devices, "has_bfloat16", lambda device: device.index == 0)
    assert devices.choose_dtype(map(torch.device, names)) is dtype
