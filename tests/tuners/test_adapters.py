import pytest
import torch

from glm_experiments.tuners import TunerAdapter, apply_tuner, load_adapter, save_adapter
from glm_experiments.tuners.tuning import trainable_parameters
from tests.tuners.tiny_models import build_glm, lora_config


@pytest.fixture
def saved(tmp_path):
    save_adapter(
        apply_tuner(build_glm(), lora_config()),
        tmp_path / "adapter",
        prompt_format="chatglm3",
        base="first/base",
    )
    return tmp_path / "adapter"


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"num_hidden_layers": 2}, "num_hidden_layers is 2 instead of 3"),
        ({"vocab_size": 80}, "vocab_size is 80 instead of 64"),
        ({"seed": 5}, "its weights are others"),
    ],
)
def test_another_base_is_refused_with_both_names(saved, other, difference):
    model = build_glm(**other)
    model.name_or_path = "second/base"
    with pytest.raises(ValueError, match=difference) as error:
        load_adapter(model, saved)
    assert "first/base" in str(error.value)
    assert "second/base" in str(error.value)


def test_the_base_in_half_precision_is_the_base(saved):
    load_adapter(build_glm(dtype=torch.bfloat16), saved)


def test_what_is_no_adapter_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is no adapter; give a folder"):
        load_adapter(build_glm(), tmp_path)


def test_an_empty_adapter_is_never_written(tmp_path):
    model = apply_tuner(build_glm(), lora_config())
    with pytest.raises(ValueError, match="nothing trained"):
        TunerAdapter(model, prompt_format="chatglm3", base="a/b").save(tmp_path / "adapter", {})
    assert not (tmp_path / "adapter").exists()
    with pytest.raises(ValueError, match="no adapter to save"):
        save_adapter(build_glm(), tmp_path / "adapter", prompt_format="chatglm3", base="a/b")


def test_a_state_is_read_back_under_the_models_names(tmp_path):
    model = apply_tuner(build_glm(), lora_config(use_dora=True))
    state = {name: each.detach() for name, each in trainable_parameters(model).items()}
    adapter = TunerAdapter(model, prompt_format="chatglm3", base="a/b")
    adapter.save(tmp_path, state)
    again = adapter.read(tmp_path)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], state[name]) for name in state)
