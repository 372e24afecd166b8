"""LoRA adapters that others wrote."""

import json

import peft
import pytest
import torch
from safetensors.torch import save_file

from glm_experiments.tuners import (
    load_adapter,
    merge_adapter,
    save_adapter,
    trainable_parameters,
)
from tests.tuners.tiny_models import build_batch, build_chatglm, build_glm


def write_peft_folder(folder, *, change=None, **changes):
    """An adapter that stock peft saved, with its logits on `build_batch`."""
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"], **changes}
    config = peft.LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **settings)
    model = peft.get_peft_model(build_glm(), config).eval()
    if change is not None:
        change(model)
    model.save_pretrained(str(folder))
    return model(**build_batch()).logits


@pytest.mark.parametrize(
    "changes",
    [{}, {"use_dora": True}, {"rank_pattern": {"down_proj": 2}, "alpha_pattern": {"q_proj": 3}}],
    ids=["plain", "dora", "patterns"],
)
def test_a_folder_of_peft(tmp_path, changes):
    expected = write_peft_folder(tmp_path, **changes)
    model = load_adapter(build_glm(), tmp_path)
    torch.testing.assert_close(model(**build_batch()).logits, expected)
    assert not trainable_parameters(model)
    torch.testing.assert_close(
        merge_adapter(model)(**build_batch()).logits, expected, rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"bias": "all"},
        {"modules_to_save": ["lm_head", "input_layernorm"]},
        {"target_modules": ["q_proj", "lm_head", "embed_tokens"]},
    ],
    ids=["biases", "whole modules", "embeddings"],
)
def test_whole_weights_beside_the_adapters(changes, tmp_path):
    def change(model):
        for each in model.parameters():
            if each.requires_grad:
                each.data += 0.01

    expected = write_peft_folder(tmp_path / "first", change=change, **changes)
    model = load_adapter(build_glm(), tmp_path / "first")
    torch.testing.assert_close(model(**build_batch()).logits, expected)
    save_adapter(model, tmp_path / "again", prompt_format="chatglm3", base="a/b")
    again = load_adapter(build_glm(), tmp_path / "again")
    torch.testing.assert_close(again(**build_batch()).logits, expected)
    by_peft = peft.PeftModel.from_pretrained(build_glm(), str(tmp_path / "again"))
    torch.testing.assert_close(by_peft(**build_batch()).logits, expected)
    torch.testing.assert_close(
        merge_adapter(model)(**build_batch()).logits, expected, rtol=1e-3, atol=1e-4
    )


def test_weights_as_a_bin_file(tmp_path):
    expected = write_peft_folder(tmp_path)
    by_peft = peft.PeftModel.from_pretrained(build_glm(), str(tmp_path))
    by_peft.save_pretrained(str(tmp_path / "bin"), safe_serialization=False)
    assert (tmp_path / "bin" / "adapter_model.bin").is_file()
    model = load_adapter(build_glm(), tmp_path / "bin")
    torch.testing.assert_close(model(**build_batch()).logits, expected)


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        ({"num_hidden_layers": 2}, r"no place for model\.layers\.2"),
        ({"num_hidden_layers": 4}, r"it lacks model\.layers\.3"),
        ({"hidden_size": 40}, "the model wants"),
        ({}, "was made for first/base and cannot go onto second/other-base"),
    ],
)
def test_another_base_is_refused_with_both_names(tmp_path, other, problem):
    write_peft_folder(tmp_path)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = "first/base"
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    model = build_glm(**other)
    model.name_or_path = "second/base" if other else "second/other-base"
    with pytest.raises(ValueError, match=problem) as error:
        load_adapter(model, tmp_path)
    assert "first/base" in str(error.value)
    assert "second/" in str(error.value)


def test_other_kinds_of_peft_are_refused(tmp_path):
    config = peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    config.save_pretrained(str(tmp_path))
    with pytest.raises(ValueError, match="peft_type=PREFIX_TUNING can't be loaded"):
        load_adapter(build_glm(), tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path):
    write_peft_folder(tmp_path)
    (tmp_path / "adapter_model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"none of adapter_model\.safetensors"):
        load_adapter(build_glm(), tmp_path)


def test_an_adapter_on_the_published_fused_modules(tmp_path):
    """q, k, v: 32, 16, 16 rows of a fused qkv; gate and up stay fused."""
    generator = torch.Generator().manual_seed(2)
    expected_model, stored = build_glm(), {}
    for index, layer in enumerate(expected_model.model.layers):
        attention, mlp = layer.self_attn, layer.mlp
        stem = f"base_model.model.transformer.encoder.layers.{index}"
        for name, rows, modules in (
            ("self_attention.query_key_value", 64, "qkv"),
            ("mlp.dense_h_to_4h", 96, ["gate_up_proj"]),
        ):
            a = torch.randn(4, 32, generator=generator)
            b = torch.randn(rows, 4, generator=generator)
            stored[f"{stem}.{name}.lora_A.weight"] = a
            stored[f"{stem}.{name}.lora_B.weight"] = b
            delta = 2 * b @ a  # lora_alpha / r = 2
            if rows == 64:
                parts = zip(modules, delta.split([32, 16, 16]), strict=True)
                for letter, part in parts:
                    getattr(attention, f"{letter}_proj").weight.data += part
            else:
                mlp.gate_up_proj.weight.data += delta
    save_file(stored, tmp_path / "adapter_model.safetensors")
    peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=4,
        lora_alpha=8,
        target_modules=["query_key_value", "dense_h_to_4h"],
    ).save_pretrained(str(tmp_path))
    model = load_adapter(build_glm(), tmp_path)
    torch.testing.assert_close(
        model(**build_batch()).logits,
        expected_model(**build_batch()).logits,
        rtol=1e-3,
        atol=1e-4,
    )


@pytest.mark.parametrize("places", [(0, 2), (0, 1, 2)], ids=["q and v", "q, k and v"])
def test_a_bare_file_of_an_early_script(tmp_path, places):
    """Thirds of the fused output with a rank of 4 each, a grouped convolution over them."""
    generator = torch.Generator().manual_seed(2)
    expected_model, stored = build_chatglm(), {}
    for index, layer in enumerate(expected_model.transformer.layers):
        fused = layer.attention.query_key_value
        a = torch.randn(4 * len(places), 32, generator=generator)
        b = torch.randn(32 * len(places), 4, 1, generator=generator)
        stem = f"base_model.model.transformer.layers.{index}.attention.query_key_value"
        stored |= {f"{stem}.lora_A.weight": a, f"{stem}.lora_B.weight": b}
        states = torch.randn(5, 32, generator=generator)
        grouped = torch.nn.functional.conv1d((states @ a.T).T[None], b, groups=len(places))[0].T
        delta = torch.zeros(96, 32)
        for block, place in enumerate(places):
            part = b[block * 32 : block * 32 + 32, :, 0] @ a[block * 4 : block * 4 + 4]
            delta[place * 32 : place * 32 + 32] = part
            torch.testing.assert_close(states @ part.T, grouped[:, block * 32 : block * 32 + 32])
        fused.weight.data += 32 / 4 * delta
    torch.save(stored, tmp_path / "chatglm-lora.pt")
    model = load_adapter(build_chatglm(), tmp_path)
    batch = build_batch()
    torch.testing.assert_close(
        model(**batch).logits, expected_model(**batch).logits, rtol=1e-3, atol=1e-3
    )
    with pytest.raises(ValueError, match="no place for"):
        load_adapter(build_glm(), tmp_path / "chatglm-lora.pt")


def test_a_folder_of_peft_0_2_holds_the_same_beside_its_settings(tmp_path):
    generator = torch.Generator().manual_seed(2)
    expected_model, stored = build_chatglm(), {}
    for index, layer in enumerate(expected_model.transformer.layers):
        a = torch.randn(4, 32, generator=generator)
        b = torch.randn(32, 4, 1, generator=generator)
        stem = f"base_model.model.transformer.layers.{index}.attention.query_key_value"
        stored |= {f"{stem}.lora_A.weight": a, f"{stem}.lora_B.weight": b}
        layer.attention.query_key_value.weight.data[32:64] += 2 * b[..., 0] @ a  # k alone
    torch.save(stored, tmp_path / "adapter_model.bin")
    settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8}
    settings |= {"target_modules": ["query_key_value"], "fan_in_fan_out": True}
    settings |= {"enable_lora": [False, True, False], "merge_weights": False}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    model = load_adapter(build_chatglm(), tmp_path)
    torch.testing.assert_close(
        model(**build_batch()).logits, expected_model(**build_batch()).logits, rtol=1e-3, atol=1e-3
    )


def test_another_bare_file_is_refused(tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="no bare state dict of LoRA"):
        load_adapter(build_chatglm(), tmp_path / "model.pt")
