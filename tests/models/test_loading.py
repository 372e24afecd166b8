"""Folders of every layout become native models: dtype, devices, files, options."""

import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from glm_experiments.models import load_model
from tests.models.golden import GOLDEN
from tests.models.tiny_checkpoints import (
    published_tensors,
    write_native,
    write_published,
)
from tests.shared_data import needs_shared

INPUT_IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])
DEVICE_MAP = {
    "model.embed_tokens": "cpu",
    "model.layers.0": "cpu",
    "model.layers.1": torch.device("cpu"),
    "model.layers.2": "cpu",
    "model.norm": "cpu",
    "lm_head": "cpu",
}


def logits(model):
    with torch.no_grad():
        return model(INPUT_IDS).logits


def state(model):
    return model.state_dict()


def assert_same_weights(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("model_type", ["glm", "glm4"])
def test_native_folders_load_as_they_are(tmp_path, model_type):
    saved = write_native(tmp_path, model_type=model_type, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    model = load_model(tmp_path)
    assert type(model) is type(saved)
    assert not model.training
    assert model.name_or_path == str(tmp_path)
    assert_same_weights(state(model), state(saved))
    assert torch.equal(logits(model), logits(saved))


def test_later_members_are_read_by_the_library(tmp_path):
    from transformers import Glm4MoeConfig, Glm4MoeForCausalLM

    config = Glm4MoeConfig(
        vocab_size=96,
        hidden_size=32,
        intermediate_size=48,
        moe_intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        n_routed_experts=4,
        num_experts_per_tok=2,
        first_k_dense_replace=1,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    saved = Glm4MoeForCausalLM(config).eval()
    saved.save_pretrained(tmp_path)
    model = load_model(tmp_path, dtype=torch.float32)
    assert torch.equal(logits(model), logits(saved))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="holds no weights"):
        load_model(tmp_path)


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
@pytest.mark.parametrize("num_shards", [1, 3])
def test_published_files_are_split_into_the_native_parts(tmp_path, suffix, num_shards):
    model = load_model(write_published(tmp_path, num_shards=num_shards, suffix=suffix))
    tensors = published_tensors()
    fused = tensors["transformer.encoder.layers.1.self_attention.query_key_value.weight"]
    attention = model.model.layers[1].self_attn
    assert torch.equal(attention.q_proj.weight, fused[:32])
    assert torch.equal(attention.k_proj.weight, fused[32:48])
    assert torch.equal(attention.v_proj.weight, fused[48:])
    assert torch.equal(
        model.model.layers[2].mlp.gate_up_proj.weight,
        tensors["transformer.encoder.layers.2.mlp.dense_h_to_4h.weight"],
    )
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    assert all(parameter.is_contiguous() for parameter in model.parameters())


def test_safetensors_come_before_bin(tmp_path):
    write_published(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"not read")
    load_model(tmp_path)


def test_a_loaded_model_saves_as_a_native_one(tmp_path):
    model = load_model(write_published(tmp_path / "published"))
    model.save_pretrained(tmp_path / "native")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "native")
    assert json.loads((tmp_path / "native" / "config.json").read_text())["model_type"] == "glm"
    assert_same_weights(state(again), state(model))
    assert torch.equal(logits(load_model(tmp_path / "native")), logits(model))


def test_dtype_is_the_checkpoints_unless_asked_for(tmp_path):
    write_published(tmp_path, torch_dtype="float16")
    assert load_model(tmp_path).dtype is torch.float16
    assert load_model(tmp_path, dtype=torch.bfloat16).dtype is torch.bfloat16
    write_published(tmp_path, torch_dtype=None)
    assert load_model(tmp_path).dtype is torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rotary_frequencies_stay_exact_in_half_precision(tmp_path, dtype):
    model = load_model(write_published(tmp_path), dtype=dtype)
    expected = 1 / 10000 ** (torch.arange(0, 4, 2, dtype=torch.float32) / 4)
    assert model.model.rotary_emb.inv_freq.dtype is torch.float32
    assert torch.equal(model.model.rotary_emb.inv_freq, expected)


@needs_shared
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_version_1_rounds_its_rotary_frequencies_to_half_in_every_precision(dtype):
    model = load_model(GOLDEN / "chatglm", dtype=dtype)
    exact = 1 / 10000 ** (torch.arange(0, 8, 2, dtype=torch.float32) / 8)
    assert model.dtype is dtype
    assert torch.equal(model.transformer.rotary_emb.inv_freq.float(), exact.half().float())


def test_a_device_map_of_several_entries_changes_nothing(tmp_path):
    write_published(tmp_path)
    model = load_model(tmp_path, device_map=DEVICE_MAP)
    assert model.hf_device_map == dict.fromkeys(DEVICE_MAP, torch.device("cpu"))
    assert torch.equal(logits(model), logits(load_model(tmp_path)))


def test_every_tensor_goes_straight_to_its_device(tmp_path):
    write_published(tmp_path)
    model = load_model(tmp_path, device_map=DEVICE_MAP | {"model.layers.1": "meta"})
    devices = {name: parameter.device.type for name, parameter in model.named_parameters()}
    on_meta = {name for name, device in devices.items() if device == "meta"}
    assert on_meta == {name for name in devices if name.startswith("model.layers.1.")}
    assert set(devices.values()) == {"meta", "cpu"}


def test_a_split_model_trains_saves_and_merges(tmp_path):
    write_published(tmp_path / "base")
    model = load_model(tmp_path / "base", device_map=DEVICE_MAP)
    tuned = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    optimizer = torch.optim.SGD([p for p in tuned.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):
        optimizer.zero_grad()
        tuned(INPUT_IDS, labels=INPUT_IDS).loss.backward()
        optimizer.step()
    gradients = [p.grad for n, p in tuned.named_parameters() if "lora_B" in n]
    assert len(gradients) == 6
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)
    tuned.eval().save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    base = load_model(tmp_path / "base")
    again = PeftModel.from_pretrained(base, tmp_path / "adapter")
    torch.testing.assert_close(logits(again), logits(tuned))
    merged = logits(tuned.merge_and_unload())
    torch.testing.assert_close(merged, logits(again), rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
def test_an_entry_inside_another_is_computed_on_its_own_device(tmp_path):
    write_published(tmp_path)
    device_map = {"": "cuda:0", "model.layers.1": "cpu"}
    split, whole = load_model(tmp_path, device_map=device_map), load_model(tmp_path)
    assert {p.device.type for p in split.model.layers[1].parameters()} == {"cpu"}
    with torch.no_grad():
        found = split(INPUT_IDS.to("cuda:0")).logits
    torch.testing.assert_close(found.cpu(), logits(whole), rtol=1e-3, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("reverse", [False, True])
def test_a_model_on_gpu_and_cpu_agrees_and_trains(tmp_path, reverse):
    """Different devices for real: what is on the CPU is computed and trained there."""
    write_published(tmp_path)
    near, far = ("cpu", "cuda:0") if reverse else ("cuda:0", "cpu")
    device_map = dict.fromkeys(["model.embed_tokens", "model.layers.0", "model.layers.1"], near)
    device_map |= dict.fromkeys(["model.layers.2", "model.norm", "lm_head"], far)
    split, whole = load_model(tmp_path, device_map=device_map), load_model(tmp_path)
    for name, parameter in split.named_parameters():
        expected = near if name.startswith(tuple(list(device_map)[:3])) else far
        assert parameter.device == torch.device(expected), name
    inputs = {"input_ids": INPUT_IDS, "labels": INPUT_IDS}
    for model in (split, whole):
        model(**{key: value.to(model.device) for key, value in inputs.items()}).loss.backward()
    for name, parameter in split.named_parameters():
        expected = whole.get_parameter(name).grad
        torch.testing.assert_close(parameter.grad.cpu(), expected, rtol=1e-3, atol=1e-4)
    greedy = {"max_new_tokens": 5, "do_sample": False}
    found = split.generate(INPUT_IDS.to(split.device), **greedy)
    assert found.cpu().equal(whole.generate(INPUT_IDS, **greedy))

    tuned = get_peft_model(split, LoraConfig(r=2, target_modules=["q_proj"]))
    adapters = {n: p for n, p in tuned.named_parameters() if p.requires_grad}
    optimizer = torch.optim.SGD(adapters.values(), lr=1.0)
    tuned(**{key: value.to(split.device) for key, value in inputs.items()}).loss.backward()
    optimizer.step()
    assert all(p.abs().max() > 0 for name, p in adapters.items() if "lora_B" in name)
    tuned.eval().save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    again = load_model(tmp_path, device_map=device_map)
    again = PeftModel.from_pretrained(again, tmp_path / "adapter")
    devices = {name: p.device for name, p in again.named_parameters() if "base_layer" in name}
    assert {device.type for device in devices.values()} == {"cuda", "cpu"}
    with torch.no_grad():
        expected = tuned(INPUT_IDS.to(split.device)).logits
        torch.testing.assert_close(again(INPUT_IDS.to(split.device)).logits, expected)
        merged = tuned.merge_and_unload()(INPUT_IDS.to(split.device)).logits
    torch.testing.assert_close(merged, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
def test_automatic_and_named_gpus(tmp_path):
    write_published(tmp_path)
    for device_map in ("auto", "cuda", 0, {"": "cuda:0"}):
        model = load_model(tmp_path, device_map=device_map, dtype=torch.bfloat16)
        assert {p.device for p in model.parameters()} == {torch.device("cuda", 0)}
        assert model.model.rotary_emb.inv_freq.device == torch.device("cuda", 0)


@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa", "flex_attention"])
def test_attention_implementation_is_set(tmp_path, attn_implementation):
    model = load_model(write_published(tmp_path), attn_implementation=attn_implementation)
    assert model.config._attn_implementation == attn_implementation


def test_wrong_options_are_refused_before_anything_is_read(tmp_path):
    with pytest.raises(ValueError, match="attn_implementation=flash is unknown; use one of eager"):
        load_model(tmp_path, attn_implementation="flash")
    with pytest.raises(ValueError, match="dequantize=gptq is unknown; use one of torch, cpm_ker"):
        load_model(tmp_path, dequantize="gptq")
    with pytest.raises(ValueError, match="dtype must be a torch"):
        load_model(tmp_path, dtype="float16")
    write_published(tmp_path)
    with pytest.raises(ValueError, match=r"cannot be loaded in torch\.int8"):
        load_model(tmp_path, dtype=torch.int8)


@pytest.mark.skipif(torch.cuda.is_available(), reason="for a machine without CUDA")
def test_cpm_kernels_without_cuda_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(RuntimeError, match=r"cpm_kernels needs a CUDA device.*leave `dequantize`"):
        load_model(tmp_path, dequantize="cpm_kernels")


def test_published_generation_settings_are_kept(tmp_path):
    write_published(tmp_path)
    settings = {"do_sample": True, "temperature": 0.8, "eos_token_id": [2, 5]}
    (tmp_path / "generation_config.json").write_text(json.dumps(settings))
    found = load_model(tmp_path).generation_config
    assert (found.temperature, found.eos_token_id, found.pad_token_id) == (0.8, [2, 5], 0)
