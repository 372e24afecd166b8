"""Layers over several devices: the same training as one device's, and what it sends and needs."""

import functools

import pytest
import torch

from glm_experiments.data.collation import Collator
from glm_experiments.models.architectures.loss import apply_label_only_loss
from glm_experiments.parallelism.layer_plan import Stage
from glm_experiments.parallelism.model_parallel import (
    Copies,
    ModelParallel,
    map_parts,
    name_parts,
    split_model,
)
from glm_experiments.training.steps import MicroBatchCollator
from glm_experiments.tuners import apply_tuner
from tests.parallelism.tiny_runs import (
    PAIRS,
    TUNERS,
    build_rows,
    build_tuned,
    run_training,
    tuner_config,
)
from tests.tuners import tiny_models


def build_split(kind, tuner, *, devices=("cpu", "cpu"), **changes):
    """A tiny model, its last two of three layers on the second device."""
    build = tiny_models.build_glm if kind == "glm" else tiny_models.build_chatglm
    model = build()
    shared = {"weight_bytes": 0, "peak_bytes": 0, "free_bytes": 0, "beside": ()}
    stages = [
        Stage(device=devices[0], first=0, last=0, **shared),
        Stage(device=devices[1], first=1, last=2, **shared),
    ]
    device_map = map_parts(name_parts(model), stages)
    for name, device in device_map.items():
        model.get_submodule(name).to(device)
    model = split_model(apply_label_only_loss(model), device_map)
    return apply_tuner(model, tuner_config(tuner, kind, **changes))


def assert_same_training(one, other):
    """The losses are those after the steps before them, so equal ones mean equal steps."""
    losses, result = one
    assert len(losses) == result.steps == 6
    torch.testing.assert_close(other[0], losses, rtol=1e-4, atol=0)
    assert result.state.keys() == other[1].state.keys()


@pytest.mark.parametrize(("tuner", "kind"), PAIRS)
@pytest.mark.parametrize("num_micro_batches", [1, 4])
def test_trains_as_one_device_does(tuner, kind, num_micro_batches, tmp_path):
    rows = build_rows(kind)
    one = run_training(build_tuned(kind, tuner), output_dir=tmp_path / "one", rows=rows)
    two = run_training(
        build_split(kind, tuner),
        output_dir=tmp_path / "two",
        rows=rows,
        num_micro_batches=num_micro_batches,
        wrap=ModelParallel,
        activation_checkpointing=num_micro_batches > 1,
    )
    assert_same_training(one, two)


def test_resumes_exactly(tmp_path):
    rows = build_rows("chatglm")
    run = functools.partial(run_training, rows=rows, num_micro_batches=2, wrap=ModelParallel)
    model = build_split("chatglm", "p_tuning_v2", prefix_dropout=0.3)
    losses, result = run(model, output_dir=tmp_path / "whole", save_steps=3)
    model = build_split("chatglm", "p_tuning_v2", prefix_dropout=0.3)
    resumed, second = run(
        model, output_dir=tmp_path / "resumed", resume=str(tmp_path / "whole" / "checkpoint-3")
    )
    assert resumed == losses[3:]
    for name, value in result.state.items():
        assert torch.equal(second.state[name], value), name


def test_all_layers_run_before_the_first_head():
    """A head on the first device must not hold up the next micro batch there."""
    model = build_split("chatglm", "lora")
    seen = []
    for index, layer in enumerate(model.transformer.layers):
        layer.register_forward_hook(lambda *_, index=index: seen.append(index))
    model.lm_head.register_forward_hook(lambda *_: seen.append("head"))
    batch = MicroBatchCollator(Collator(0), num_micro_batches=3)(build_rows("chatglm", num_rows=6))
    del batch["num_tokens"]
    loss = ModelParallel(model)(**batch)["loss"]
    assert seen == [0, 1, 2] * 3 + ["head"] * 3
    seen.clear()
    loss.backward()
    assert seen == []


def test_the_parts_of_both_models():
    glm, chatglm = tiny_models.build_glm(), tiny_models.build_chatglm()
    layers = {f"model.layers.{index}": index for index in range(3)}
    assert name_parts(glm) == layers | {
        "model.embed_tokens": "first",
        "model.norm": "last",
        "model.rotary_emb": "first",
        "lm_head": "last",
    }
    assert name_parts(chatglm) == {
        **{f"transformer.layers.{index}": index for index in range(3)},
        "transformer.word_embeddings": "first",
        "transformer.final_layernorm": "last",
        "transformer.rotary_emb": "first",
        "lm_head": "first",
    }


def test_a_split_model_is_known_by_its_map_and_answers_as_before():
    model, whole = build_split("glm", "lora"), build_tuned("glm", "lora")
    assert model.hf_device_map["model.layers.2"] == torch.device("cpu")
    assert len(model.hf_device_map) == 7
    assert type(model.model.layers[0]).__name__ == "GlmDecoderLayer"
    ids = torch.tensor([[5, 6, 7, 8]])
    answers = [each.generate(ids, max_new_tokens=5, do_sample=False) for each in (model, whole)]
    assert torch.equal(*answers)


def test_a_tensor_is_sent_once_and_again_when_it_changed():
    copies, meta = Copies(), torch.device("meta")
    mask = torch.ones(3)
    sent = copies.send({"mask": mask, "rotation": (mask, 2)}, meta)
    assert sent["mask"].device == meta
    assert sent["rotation"][0] is sent["mask"]
    assert sent["rotation"][1] == 2
    assert copies.send(mask, meta) is sent["mask"]
    mask += 1
    assert copies.send(mask, meta) is not sent["mask"]
    with torch.no_grad():
        unhistoried = copies.send(mask, meta)
    assert copies.send(mask, meta) is not unhistoried
    del mask
    assert len(copies.by_device[meta]) == 0


def test_flex_attention_is_refused():
    model = tiny_models.build_glm()
    model.set_attn_implementation("flex_attention")
    with pytest.raises(ValueError, match=r"flex_attention; type model\.attn_implementation=sdpa"):
        name_parts(model)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["glm", "chatglm"])
@pytest.mark.parametrize("tuner", TUNERS)
@pytest.mark.parametrize("devices", [("cuda:0", "cpu"), ("cuda:0", "cuda:0")])
def test_on_gpu_and_host_as_on_one_device(devices, tuner, kind, tmp_path):
    rows = build_rows(kind)
    one = run_training(build_tuned(kind, tuner), output_dir=tmp_path / "one", rows=rows)
    model = build_split(kind, tuner, devices=devices)
    two = run_training(
        model,
        output_dir=tmp_path / "two",
        rows=rows,
        device="cuda:0",
        num_micro_batches=2,
        wrap=ModelParallel,
        activation_checkpointing=True,
    )
    assert_same_training(one, two)
    layers = model.base_model.layers
    assert {each.device for each in layers[0].parameters()} == {torch.device("cuda:0")}
    assert {each.device for each in layers[2].parameters()} == {torch.device(devices[1])}
    ids = torch.tensor([[5, 6, 7, 8]], device="cuda:0")
    assert model.generate(ids, max_new_tokens=5, do_sample=False).shape[1] > 4
