import json

import peft
import pytest
import torch

from glm_experiments.tuners import (
    apply_tuner,
    count_parameters,
    load_adapter,
    merge_adapter,
    save_adapter,
    trainable_parameters,
)
from tests.tuners.tiny_models import (
    build_batch,
    build_chatglm,
    build_glm,
    lora_config,
    moved,
    train_steps,
)


def test_exactly_the_adapters_move():
    model = apply_tuner(build_glm(), lora_config())
    expected = {
        f"model.layers.{layer}.self_attn.{target}.lora_{letter}.default.weight"
        for layer in range(3)
        for target in ("q_proj", "v_proj")
        for letter in "AB"
    }
    assert set(trainable_parameters(model)) == expected
    before = train_steps(model)
    assert moved(model, before) == expected
    # q: 4 x 32 + 32 x 4; v: 4 x 32 + 16 x 4; three layers
    assert count_parameters(model)[0] == 3 * (256 + 192)


def test_it_keeps_its_class_and_starts_as_the_base():
    base, batch = build_glm(), build_batch()
    expected = base(**batch).logits
    model = apply_tuner(base, lora_config())
    assert type(model).__name__ == "GlmForCausalLM"
    assert torch.equal(model(**batch).logits, expected)


def test_the_seed_decides_the_start():
    def start(seed: int) -> torch.Tensor:
        model = apply_tuner(build_glm(), lora_config(), seed=seed)
        return trainable_parameters(model)[
            "model.layers.0.self_attn.q_proj.lora_A.default.weight"
        ].detach()

    assert torch.equal(start(3), start(3))
    assert not torch.equal(start(3), start(4))
    assert start(3).abs().max() <= 32**-0.5


def test_a_target_that_names_nothing_is_refused_with_what_exists():
    with pytest.raises(ValueError, match="query_key_value names no linear module") as error:
        apply_tuner(build_glm(), lora_config(target_modules=["q_proj", "query_key_value"]))
    assert "down_proj, gate_up_proj, k_proj, lm_head, o_proj, q_proj, v_proj" in str(error.value)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("use_dora", [False, True])
def test_trainable_dtype_beside_a_bfloat16_base(dtype, use_dora):
    model = build_glm(dtype=torch.bfloat16)
    model = apply_tuner(model, lora_config(dtype=dtype, use_dora=use_dora))
    assert {p.dtype for p in trainable_parameters(model).values()} == {getattr(torch, dtype)}
    before = train_steps(model)
    assert {name for name in moved(model, before) if "lora_B" in name}
    assert model(**build_batch()).logits.dtype is torch.bfloat16


def test_adapters_compute_in_the_precision_of_the_base():
    model = apply_tuner(build_glm(dtype=torch.bfloat16), lora_config())
    seen = []
    layer = model.model.layers[0].self_attn.q_proj
    layer.lora_B["default"].register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    model(**build_batch())
    assert seen == [torch.bfloat16]
    assert layer.lora_B["default"].weight.dtype is torch.float32


@pytest.mark.parametrize("use_dora", [False, True])
@pytest.mark.parametrize("use_rslora", [False, True])
def test_saved_and_loaded_by_us_and_by_peft(tmp_path, use_dora, use_rslora):
    model = apply_tuner(build_glm(), lora_config(use_dora=use_dora, use_rslora=use_rslora))
    train_steps(model)
    batch = build_batch(seed=9)
    expected = model(**batch).logits
    save_adapter(model, tmp_path, prompt_format="chatglm3", base="some/base")
    loaded = load_adapter(build_glm(), tmp_path)
    assert torch.equal(loaded(**batch).logits, expected)
    assert not trainable_parameters(loaded)
    by_peft = peft.PeftModel.from_pretrained(build_glm(), str(tmp_path))
    torch.testing.assert_close(by_peft(**batch).logits, expected)
    description = json.loads((tmp_path / "adapter.json").read_text())
    assert description["prompt_format"] == "chatglm3"
    assert description["base"]["name"] == "some/base"


@pytest.mark.parametrize("use_dora", [False, True])
def test_merged_is_a_plain_model_with_the_same_logits(tmp_path, use_dora):
    model = apply_tuner(build_glm(), lora_config(use_dora=use_dora))
    train_steps(model)
    batch = build_batch(seed=9)
    expected = model(**batch).logits
    merged = merge_adapter(model)
    assert set(merged.state_dict()) == set(build_glm().state_dict())
    torch.testing.assert_close(merged(**batch).logits, expected, rtol=1e-4, atol=1e-5)
    merged.save_pretrained(tmp_path)
    again = type(merged).from_pretrained(tmp_path)
    assert torch.equal(again(**batch).logits, merged(**batch).logits)
    with pytest.raises(ValueError, match="carries no adapter"):
        merge_adapter(merged)


def test_gradient_checkpointing_changes_nothing():
    losses = []
    for checkpointed in (False, True):
        model = apply_tuner(build_glm(), lora_config(lora_dropout=0.5))
        if checkpointed:
            model.gradient_checkpointing_enable()
        torch.manual_seed(5)
        train_steps(model)
        losses.append(model(**build_batch()).loss)
    assert torch.equal(*losses)


def test_a_tuned_model_is_not_tuned_twice():
    with pytest.raises(ValueError, match="already carries a lora adapter"):
        apply_tuner(apply_tuner(build_glm(), lora_config()), lora_config())


def test_version_1_has_adapters_on_its_fused_module(tmp_path):
    model = apply_tuner(build_chatglm(), lora_config(target_modules=["query_key_value"]))
    names = {
        f"transformer.layers.{layer}.attention.query_key_value.lora_{letter}.default.weight"
        for layer in range(3)
        for letter in "AB"
    }
    assert moved(model, train_steps(model)) == names
    save_adapter(model, tmp_path, prompt_format="chatglm", base="some/base")
    expected = model(**build_batch()).logits
    loaded = load_adapter(build_chatglm(), tmp_path)
    assert torch.equal(loaded(**build_batch()).logits, expected)
    merged = merge_adapter(loaded)(**build_batch()).logits
    torch.testing.assert_close(merged, expected, rtol=1e-3, atol=1e-3)
