"""What the parts of a model take, against recorded peaks of full-size models on an H100."""

import copy

import pytest
import torch

from glm_experiments.data.collation import Collator
from glm_experiments.models.architectures.loss import apply_label_only_loss
from glm_experiments.models.building import build_model
from glm_experiments.parallelism.layer_plan import GIB, plan_stages
from glm_experiments.parallelism.layer_sizes import (
    measure_free_memory,
    measure_sizes,
    read_available_memory,
)
from glm_experiments.tuners import apply_tuner
from tests.full_size.checkpoints import GEOMETRIES
from tests.parallelism.tiny_runs import tuner_config
from tests.tuners.tiny_models import lora_config, p_tuning_config

VERSION_1 = {
    "model_type": "chatglm",
    "hidden_size": 4096,
    "num_hidden_layers": 28,
    "num_attention_heads": 32,
    "intermediate_size": 16384,
    "vocab_size": 130528,
    "bos_token_id": 130004,
    "eos_token_id": 130005,
    "mask_token_id": 130000,
    "gmask_token_id": 130001,
    "pad_token_id": 3,
}
VERSION_2 = GEOMETRIES["chatglm2_6b"]
TARGETS = {"chatglm": ["query_key_value"], "glm": ["q_proj", "k_proj", "v_proj"]}


def measure(geometry, tuner, *, num_rows, length, checkpointed):
    model = build_model(geometry, tokenizer=None, dtype=torch.bfloat16, seed=0, device="meta")
    return measure_sizes(
        apply_tuner(model, tuner),
        dtype=torch.bfloat16,
        num_rows=num_rows,
        length=length,
        activation_checkpointing=checkpointed,
    )


def peak(sizes):
    (stage,) = plan_stages(
        sizes, devices=["cuda:0"], free_bytes={"cuda:0": 80 * GIB}, num_micro_batches=1
    )
    return stage.peak_bytes / GIB


@pytest.mark.parametrize(
    ("geometry", "num_rows", "length", "checkpointed", "recorded"),
    [
        (VERSION_1, 1, 512, False, 13.5),
        (VERSION_1, 4, 1024, False, 24.7),
        (VERSION_1, 4, 1024, True, 13.7),
        (VERSION_2, 1, 512, False, 14.4),
        (VERSION_2, 4, 1024, False, 33.0),
    ],
)
def test_lora_needs_what_was_recorded(geometry, num_rows, length, checkpointed, recorded):
    tuner = lora_config(r=8, lora_dropout=0.1, target_modules=TARGETS[geometry["model_type"]])
    sizes = measure(geometry, tuner, num_rows=num_rows, length=length, checkpointed=checkpointed)
    assert peak(sizes) == pytest.approx(recorded, rel=0.1)
    assert sizes.is_tied == (geometry is VERSION_1)


def test_weights_and_what_trains_stand_with_their_part():
    sizes = measure(
        VERSION_1, p_tuning_config(num_virtual_tokens=128), num_rows=1, length=64, checkpointed=True
    )
    prefix = 2 * 128 * 4096 * 4
    matrices = 12 * 4096**2 + (3 + 1 + 4 + 1) * 4096
    norms = 4 * 4096
    assert sizes.layers[0].weights == 2 * (matrices + norms) + prefix
    assert sizes.layers[27].weights - sizes.layers[0].weights == 2 * 2 * 4096  # the last norm
    # Gradient and two states in float32, and the copy that is computed with.
    assert sizes.layers[0].training == 3 * prefix + prefix // 2
    assert sizes.layers[0].activations == 64 * 4096 * 2
    assert sizes.embedding.weights == 130528 * 4096 * 2
    assert sizes.head.weights == 0


@pytest.mark.parametrize("tuner", ["lora", "p_tuning_v2", "projection", "freeze", "full"])
def test_every_tuner_is_measured(tuner):
    geometry = {**VERSION_2, "num_hidden_layers": 3, "vocab_size": 1000}
    config = tuner_config(tuner, "glm")
    sizes = measure(geometry, config, num_rows=2, length=32, checkpointed=False)
    assert len(sizes.layers) == 3
    assert sizes.layers[2].training > 0
    assert sizes.layers[2].activations > 0
    assert (sizes.layers[0].training == 0) == (tuner == "freeze")
    assert (sizes.embedding.training > 0) == (tuner in ("projection", "full"))
    assert (sizes.head.training > 0) == (tuner == "full")


def test_free_memory_of_the_host():
    free = measure_free_memory(["cpu"])
    assert free.keys() == {"cpu"}
    assert 2**26 < free["cpu"] <= 2**63
    assert read_available_memory() == pytest.approx(free["cpu"], rel=0.5)


@pytest.mark.gpu
@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("geometry", [VERSION_1, VERSION_2])
def test_a_training_step_needs_what_is_expected(geometry, checkpointed):
    geometry = {**geometry, "num_hidden_layers": 8}
    tuner = lora_config(r=8, target_modules=TARGETS[geometry["model_type"]])
    sizes = measure(geometry, tuner, num_rows=4, length=1024, checkpointed=checkpointed)
    model = build_model(geometry, tokenizer=None, dtype=torch.bfloat16, seed=0, device="cuda:0")
    model = apply_tuner(apply_label_only_loss(model), tuner).train()
    if checkpointed:
        model.gradient_checkpointing_enable()
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(trained, fused=True)
    ids = torch.randint(5, 60000, (1024,)).tolist()
    row = {"input_ids": ids, "labels": [-100] * 512 + ids[512:]}
    batch = {key: each.to("cuda:0") for key, each in Collator(0)([copy.copy(row)] * 4).items()}
    for _ in range(2):
        torch.cuda.reset_peak_memory_stats()
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    measured = torch.cuda.max_memory_allocated() / GIB
    assert peak(sizes) == pytest.approx(measured, rel=0.1)
