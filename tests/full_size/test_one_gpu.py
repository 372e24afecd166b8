"""Full-size models with random weights on one GPU: they load, train and answer as fast and in as
little memory as is claimed."""

import gc
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from glm_experiments.composing.loader import build_loader, compose
from glm_experiments.config import parse
from glm_experiments.models.architectures.loss import apply_label_only_loss
from glm_experiments.models.building import build_model
from glm_experiments.tuners import apply_tuner, trainable_parameters
from tests.full_size.checkpoints import (
    DEVICE,
    GEOMETRIES,
    GIB,
    NUM_PARAMETERS,
    QUERIES_TO_VALUES,
    show,
)
from tests.running import read_losses, read_record
from tests.test_setups import CONF

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]

LEAST_TOKENS_PER_SECOND = {"chatglm_6b": 11_000, "chatglm2_6b": 10_803}
ROWS, LENGTH = 4, 1024
NUM_WARM_UP_STEPS, NUM_TIMED_STEPS = 5, 20


@dataclass(frozen=True)
class Measured:
    """A bare loop's speed and peak, and what its model answered afterwards."""

    tokens_per_second: float
    peak_bytes: int
    losses: tuple[float, float]
    answers: list[list[int]]


def build_batch(model: Any) -> dict[str, torch.Tensor]:
    """Half of every row is context, the other half is labelled: `[gMASK] <sop>` between them."""
    ids = torch.randint(10, 60_000, (ROWS, LENGTH))
    if model.config.model_type == "chatglm":
        ids[:, LENGTH // 2 - 2], ids[:, LENGTH // 2 - 1] = 130001, 130004
    labels = ids.clone()
    labels[:, : LENGTH // 2] = -100
    positions = (labels[:, 1:] != -100).nonzero()
    flat = positions[:, 0] * LENGTH + positions[:, 1]
    batch = {"input_ids": ids, "labels": labels, "label_positions": flat}
    return {name: each.to(DEVICE) for name, each in batch.items()}


def measure(name: str, *overrides: str) -> Measured:
    """Forward, backward and optimizer step with full activation checkpointing; then answers."""
    config = parse(compose(build_loader(), [f"model={name}", *overrides]))
    model = build_model(
        GEOMETRIES[name], tokenizer=None, dtype=torch.bfloat16, seed=0, device=DEVICE
    )
    assert sum(each.numel() for each in model.parameters()) == NUM_PARAMETERS[name]
    model = apply_tuner(apply_label_only_loss(model), config.tuner)
    model.gradient_checkpointing_enable()
    model.train()
    optimizer = torch.optim.AdamW(trainable_parameters(model).values(), lr=1e-3)
    batch = build_batch(model)
    torch.cuda.reset_peak_memory_stats()
    start, losses = 0.0, []
    for step in range(NUM_WARM_UP_STEPS + NUM_TIMED_STEPS):
        if step == NUM_WARM_UP_STEPS:
            torch.cuda.synchronize()
            start = time.perf_counter()
        loss = model(**batch, use_cache=False).loss
        loss.backward()
        losses.append(loss.detach())
        optimizer.step()
        optimizer.zero_grad()
    torch.cuda.synchronize()
    rate = ROWS * LENGTH * NUM_TIMED_STEPS / (time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated()
    return Measured(rate, peak, (losses[0].item(), losses[-1].item()), answer(model, batch))


def answer(model: Any, batch: dict[str, torch.Tensor]) -> list[list[int]]:
    """Greedy new tokens for prompts of two lengths, padded on the left."""
    model.gradient_checkpointing_disable()
    model.eval()
    prompts = batch["input_ids"][:2, LENGTH // 2 - 100 : LENGTH // 2].clone()
    mask = torch.ones_like(prompts)
    prompts[1, :60], mask[1, :60] = model.config.pad_token_id, 0
    options = {"do_sample": False, "max_new_tokens": 12, "eos_token_id": None}
    found = model.generate(prompts, attention_mask=mask, **options)
    with torch.no_grad():
        first = model(prompts[:1]).logits[:, -1].argmax(-1)
    assert found[0, prompts.shape[1]] == first[0]
    return found[:, prompts.shape[1] :].tolist()


@pytest.mark.parametrize("name", list(GEOMETRIES))
def test_a_full_size_model_trains_and_answers(name: str) -> None:
    targets = QUERIES_TO_VALUES[name]
    lora = measure(name, "tuner=lora", "tuner.lora_dropout=0", f"tuner.target_modules={targets}")
    gc.collect()
    torch.cuda.empty_cache()
    prefix = measure(name, "tuner=p_tuning_v2", "tuner.num_virtual_tokens=128")
    for tuner, each in {"lora": lora, "p_tuning_v2": prefix}.items():
        show(f"{name} {tuner}, bare loop", each.tokens_per_second, each.peak_bytes)
        assert [len(tokens) for tokens in each.answers] == [12, 12]
    assert lora.losses[1] < lora.losses[0]
    assert lora.tokens_per_second >= LEAST_TOKENS_PER_SECOND[name]
    assert lora.peak_bytes <= 15 * GIB
    assert prefix.peak_bytes <= lora.peak_bytes + GIB
    assert prefix.tokens_per_second >= 0.9 * lora.tokens_per_second


@dataclass(frozen=True)
class SetUp:
    """A named experiment as it is tried here.

    peak_gib: as its file's header says; None: it is the header's for other devices.
    """

    experiment: str
    overrides: tuple[str, ...] = ()
    peak_gib: float | None = None
    num_steps: int = 8
    whole_samples: bool = False

    def __str__(self) -> str:
        data = ["one sample a row"] if self.whole_samples else []
        return " ".join([self.experiment, *data, *self.overrides])


CHECKPOINTED = "training.activation_checkpointing=true"
ONE_CARD_TWICE = ("parallelism.devices=[cuda:0,cuda:0]",)
# Rows are full: packed questions, or one sample each.
SET_UPS = [
    SetUp("lora_single_16gb", peak_gib=13.5),
    SetUp("lora_single_16gb", (CHECKPOINTED,), peak_gib=12.0),
    SetUp("lora_single_24gb", peak_gib=14.0),
    SetUp("lora_single_24gb", peak_gib=14.0, whole_samples=True),
    SetUp("lora_single_24gb", ("training.activation_checkpointing=false",), peak_gib=26),
    SetUp("lora_data_parallel", ONE_CARD_TWICE),
    SetUp("lora_model_parallel", ONE_CARD_TWICE),
    SetUp("p_tuning_v2_model_parallel", ONE_CARD_TWICE),
    SetUp(
        "lora_model_parallel",
        ("parallelism.devices=[cuda:0,cpu]", "data.context_length=128", "training.batch_size=16"),
        num_steps=2,
    ),
    SetUp("chatglm2_lora", peak_gib=16.2),
    SetUp("adgen_p_tuning_v2", peak_gib=18.8),
    SetUp("adgen_p_tuning_v2", ("training.micro_batch_size=4",), peak_gib=13.8),
]


@pytest.mark.parametrize("set_up", SET_UPS, ids=str)
def test_a_set_up_needs_what_its_header_says(
    set_up: SetUp,
    find_checkpoint: Callable[[str], Path],
    full_rows: Path,
    tmp_path: Path,
    typed: Any,
) -> None:
    header = (CONF / f"{set_up.experiment}.yaml").read_text(encoding="utf-8")
    model = "chatglm2_6b" if "chatglm2" in header else "chatglm_6b"
    data = ["data=general", "data.packing=true", "data.num_train_rows=12000"]
    if set_up.whole_samples:
        data = ["data=files", f"data.path={full_rows}"]
    done = typed.train(
        tmp_path,
        *(f"experiment={set_up.experiment}", *data, f"model.path={find_checkpoint(model)}"),
        *("model.dtype=bfloat16", "data.num_validation_rows=2"),
        *(f"training.max_steps={set_up.num_steps}", "training.logging_steps=1"),
        *("evaluation.before=false", "evaluation.max_new_tokens=8", "tracking=disabled"),
        *set_up.overrides,
        tiny=(),
    )
    assert done.code == 0, done.err[-3000:]
    outcome = read_record(tmp_path)["outcome"]
    peak = outcome["peak_memory_bytes"][f"{DEVICE}:0"]
    show(str(set_up), outcome["tokens_per_second"], peak)
    assert len(read_losses(tmp_path)) == set_up.num_steps
    assert outcome["total_parameters"] - outcome["trainable_parameters"] == NUM_PARAMETERS[model]
    answers = (tmp_path / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(answers) == 2
    if "split" in outcome:
        expected = outcome["split"]["expected_peak_memory_bytes"][f"{DEVICE}:0"]
        assert peak == pytest.approx(expected, rel=0.1)
    if set_up.peak_gib is not None:
        assert re.search(rf"\b{set_up.peak_gib:g}\b", header)
        assert peak / GIB == pytest.approx(set_up.peak_gib, rel=0.1)
