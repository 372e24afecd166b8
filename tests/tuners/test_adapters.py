import json
import os

import pytest
import torch
from safetensors.torch import save_file

from glm_experiments.tuners import (
    TunerAdapter,
    apply_tuner,
    load_adapter,
    save_adapter,
    trainable_parameters,
)
from glm_experiments.tuners.origins import check_name
from tests.tuners.tiny_models import build_batch, build_glm, lora_config, p_tuning_config


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


@pytest.mark.parametrize(
    ("made_for", "found", "is_refused"),
    [
        ("THUDM/chatglm2-6b", "/models/chatglm3-6b", True),
        ("THUDM/chatglm-6b", "/models/chatglm2-6b-int4", True),
        ("THUDM/chatglm-6b", "/models/chatglm-6b-int4", False),
        ("THUDM/chatglm2-6b", "zai-org/chatglm2-6b", False),
        ("THUDM/glm-4-9b", "/models/GLM4", False),
        ("THUDM/chatglm2-6b", "/models/tiny_glm", False),
    ],
)
def test_a_base_is_known_by_its_name_where_shapes_are_alike(made_for, found, is_refused, tmp_path):
    model = build_glm()
    model.name_or_path = found
    if not is_refused:
        check_name(made_for, model, source=tmp_path)
        return
    with pytest.raises(ValueError, match=f"made for {made_for} and cannot go onto {found}"):
        check_name(made_for, model, source=tmp_path)


def test_a_folder_that_is_named_as_a_hub_id_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "mine").mkdir(parents=True)
    model = build_glm()
    model.name_or_path = "models/mine"
    check_name("THUDM/chatglm2-6b", model, source=tmp_path)


@pytest.mark.parametrize(
    "path", ["run", "run/checkpoint-3", "run/adapter/adapter_model.safetensors"]
)
def test_an_adapter_is_found_in_a_run_and_around_its_weights(path, saved, tmp_path):
    for folder in ("run", "run/checkpoint-3"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "adapter").symlink_to(saved)
    assert not trainable_parameters(load_adapter(build_glm(), tmp_path / path))


def test_a_folder_of_checkpoints_names_the_last(tmp_path):
    for step in (500, 3000):
        (tmp_path / f"checkpoint-{step}").mkdir()
    with pytest.raises(ValueError, match=r"did you mean .*checkpoint-3000\?"):
        load_adapter(build_glm(), tmp_path)


@pytest.mark.parametrize("config", [lora_config(), p_tuning_config(prefix_projection=True)])
def test_a_refused_adapter_leaves_the_model_as_it_was(config, tmp_path):
    other = apply_tuner(build_glm(hidden_size=40), config)
    save_adapter(other, tmp_path, prompt_format="chatglm3", base="a/b")
    # As if the file's description did not tell them apart.
    description = json.loads((tmp_path / "adapter.json").read_text())
    description["base"] |= {"geometry": {**description["base"]["geometry"], "hidden_size": 32}}
    description["base"]["sample"] = None
    (tmp_path / "adapter.json").write_text(json.dumps(description))
    model, batch = build_glm(), build_batch()
    names, logits = set(dict(model.named_parameters())), model(**batch).logits
    with pytest.raises(ValueError, match="the model wants"):
        load_adapter(model, tmp_path)
    assert set(dict(model.named_parameters())) == names == set(trainable_parameters(model))
    assert torch.equal(model(**batch).logits, logits)
    apply_tuner(model, config)


class RunsCode:
    def __reduce__(self):
        return os.mkdir, ("was-run",)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "can't be read"),
        (b"\x80\x02 half a pickle", "is damaged, or holds more than tensors"),
        ({"a": RunsCode()}, "is damaged, or holds more than tensors: loading that could run code"),
        ([torch.zeros(1)], "holds no plain dict of tensors"),
        ({}, "holds no tensor"),
    ],
    ids=["empty", "cut", "code", "list", "no tensor"],
)
def test_a_file_of_anything_but_tensors_is_refused(content, problem, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "chatglm-lora.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(ValueError, match=problem) as error:
        load_adapter(build_glm(), file)
    assert "chatglm-lora.pt" in str(error.value)
    assert not (tmp_path / "was-run").exists()


def test_a_truncated_adapter_is_refused_by_name(saved):
    file = saved / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors can't be read"):
        load_adapter(build_glm(), saved)
    save_file({}, file)
    with pytest.raises(ValueError, match="holds no tensor"):
        load_adapter(build_glm(), saved)
    (saved / "adapter.json").write_text('{"tuner": {}}')
    with pytest.raises(ValueError, match=r"adapter\.json describes no adapter"):
        load_adapter(build_glm(), saved)
