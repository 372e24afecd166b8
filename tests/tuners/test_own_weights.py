import pytest
import torch
from safetensors.torch import load_file, save_file

from glm_experiments.tuners import (
    apply_tuner,
    load_adapter,
    merge_adapter,
    save_adapter,
    trainable_parameters,
)
from tests.tuners.tiny_models import (
    build_batch,
    build_chatglm,
    build_glm,
    freeze_config,
    full_config,
    moved,
    train_steps,
)


def test_freeze_moves_exactly_the_last_layers():
    model = apply_tuner(build_glm(), freeze_config(2))
    expected = {
        name
        for name, _ in model.named_parameters()
        if name.startswith(("model.layers.1.", "model.layers.2."))
    }
    assert len(expected) == 2 * 11
    assert moved(model, train_steps(model)) == expected == set(trainable_parameters(model))


def test_freeze_refuses_more_layers_than_there_are():
    with pytest.raises(ValueError, match="num_trainable_layers=4, but the model has 3 layers"):
        apply_tuner(build_glm(), freeze_config(4))


def test_full_moves_everything():
    model = apply_tuner(build_glm(), full_config())
    assert moved(model, train_steps(model)) == {name for name, _ in model.named_parameters()}


def test_what_trains_is_kept_in_its_own_dtype():
    model = apply_tuner(build_glm(dtype=torch.bfloat16), freeze_config(1))
    dtypes = {name: each.dtype for name, each in model.named_parameters()}
    assert dtypes["model.layers.2.mlp.down_proj.weight"] is torch.float32
    assert dtypes["model.layers.1.mlp.down_proj.weight"] is torch.bfloat16
    merge_adapter(model)
    assert {each.dtype for each in model.parameters()} == {torch.bfloat16}
    assert (
        model.model.rotary_emb.inv_freq.dtype
        == build_glm(dtype=torch.bfloat16).model.rotary_emb.inv_freq.dtype
    )


@pytest.mark.parametrize("build", [build_glm, build_chatglm])
def test_layers_in_another_dtype_answer_and_train(build, tmp_path):
    """Outside of a training, too, which would bring autocast."""
    model = apply_tuner(build(dtype=torch.bfloat16), freeze_config(1))
    before = train_steps(model)
    assert len(moved(model, before)) == len(trainable_parameters(model))
    batch = build_batch()
    logits = model(**batch).logits
    tokens = model.generate(batch["input_ids"], max_new_tokens=4, do_sample=False)
    assert logits.dtype is torch.bfloat16
    save_adapter(model, tmp_path, prompt_format="glm4", base="some/base")
    loaded = load_adapter(build(dtype=torch.bfloat16), tmp_path)
    torch.testing.assert_close(loaded(**batch).logits, logits, rtol=0.05, atol=0.05)
    merged = merge_adapter(model)
    assert type(merged) is type(build())
    assert torch.equal(merged(**batch).logits, loaded(**batch).logits)
    assert tokens.shape == (2, 14)


@pytest.mark.parametrize("config", [full_config(), freeze_config(1)], ids=["full", "freeze"])
def test_saved_and_loaded(tmp_path, config):
    model = apply_tuner(build_glm(), config)
    train_steps(model)
    batch = build_batch(seed=9)
    expected = model(**batch).logits
    save_adapter(model, tmp_path, prompt_format="glm4", base="some/base")
    loaded = load_adapter(build_glm(), tmp_path)
    assert torch.equal(loaded(**batch).logits, expected)
    merged = merge_adapter(loaded)
    assert torch.equal(merged(**batch).logits, expected)


@pytest.mark.parametrize("config", [full_config(), freeze_config(1)], ids=["full", "freeze"])
def test_a_weight_that_is_missing_is_missed(tmp_path, config):
    save_adapter(apply_tuner(build_glm(), config), tmp_path, prompt_format="glm4", base="some/base")
    file, name = tmp_path / "adapter_model.safetensors", "model.layers.2.mlp.down_proj.weight"
    save_file({key: each for key, each in load_file(file).items() if key != name}, file)
    with pytest.raises(ValueError, match=f"it lacks {name}"):
        load_adapter(build_glm(), tmp_path)


def test_full_replaces_any_base_of_its_shape(tmp_path):
    model = apply_tuner(build_glm(), full_config())
    save_adapter(model, tmp_path, prompt_format="glm4", base="some/base")
    loaded = load_adapter(build_glm(seed=7), tmp_path)
    batch = build_batch()
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)


def test_a_tied_head_stays_tied(tmp_path):
    model = apply_tuner(build_chatglm(dtype=torch.bfloat16), full_config())
    train_steps(model)
    assert model.lm_head.weight is model.transformer.word_embeddings.weight
    save_adapter(model, tmp_path, prompt_format="chatglm", base="some/base")
    merged = merge_adapter(load_adapter(build_chatglm(dtype=torch.bfloat16), tmp_path))
    assert merged.lm_head.weight is merged.transformer.word_embeddings.weight
    expected = merge_adapter(model)(**build_batch()).logits
    assert torch.equal(merged(**build_batch()).logits, expected)
