"""Trainings of tiny models in one process or several, for the tests of distributed and sharded."""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from glm_experiments.evaluation.generation import generate_answers
from glm_experiments.models.architectures import loss
from glm_experiments.parallelism.distributed import replicate
from glm_experiments.parallelism.sharded import (
    ShardedPasses,
    copy_structure,
    shard,
    source_device,
)
from glm_experiments.parallelism.together import Answer, answer_together
from glm_experiments.processes import meeting
from glm_experiments.processes.workers import run_workers
from glm_experiments.processes.world import World
from glm_experiments.record.run import Run
from glm_experiments.tuners import apply_tuner
from tests.parallelism import tiny_runs
from tests.tuners import tiny_models

NUM_PROCESSES = 2


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training; `changes` are the training section's. Its name is its parallelism's folder."""

    kind: str = "glm"
    tuner: str = "lora"
    parallelism: str = "single"
    dtype: torch.dtype = torch.float32
    folder: str = "run"
    changes: dict[str, Any] = field(default_factory=dict)


def run_alone(trainings: list[Training], folder: Path) -> list[dict[str, Any]]:
    """In this process, whatever their parallelism says."""
    return [run_one(each, folder=folder, parallelism="single") for each in trainings]


def run_together(
    trainings: list[Training],
    folder: Path,
    *,
    num_processes: int = NUM_PROCESSES,
    device: str = "cpu",
) -> list[dict[str, Any]]:
    """In workers, all in one start of them."""
    run = Run()
    work = functools.partial(run_all, trainings, folder, num_processes, device)
    run_workers(work, run, num_processes=num_processes, folder=folder)
    return run.outcome["trainings"]


def run_all(
    trainings: list[Training], folder: Path, num_processes: int, device: str, run: Run
) -> None:
    import os

    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    world = World(rank=rank, size=num_processes, local_rank=rank)
    meeting.join_world(world, device=device)
    run.outcome["trainings"] = [
        run_one(each, folder=folder, parallelism=each.parallelism, device=device)
        for each in trainings
    ]


def run_one(
    training: Training, *, folder: Path, parallelism: str, device: str = "cpu"
) -> dict[str, Any]:
    """What came of it: losses, the trained state, answers, and what of each weight lies here."""
    loss.PIECE_LENGTH = 2  # the head is used, and used again for the gradient, several times
    is_glm = training.kind == "glm"
    build = tiny_models.build_glm if is_glm else tiny_models.build_chatglm
    model = loss.apply_label_only_loss(build(dtype=training.dtype))
    rows = tiny_runs.build_rows(training.kind)
    model = model.to(source_device() if parallelism == "sharded" else device)
    base = model
    if parallelism == "sharded":
        base = shard(copy_structure(model), device=device)
    before = answer_rows(base, rows, generate_answers)
    del base
    model = apply_tuner(model, tiny_runs.tuner_config(training.tuner, training.kind))
    num_frozen = sum(not each.requires_grad for each in model.parameters())
    wrap: Any = None
    if parallelism == "distributed":
        wrap = functools.partial(replicate, device=device)
    if parallelism == "sharded":
        model = shard(model, device=device)
        own = training.tuner in ("freeze", "full")
        wrap = functools.partial(ShardedPasses, reduces_every_pass=own)
    losses, result = tiny_runs.run_training(
        model,
        output_dir=folder / training.folder,
        rows=rows,
        device=device,
        wrap=wrap,
        **training.changes,
    )
    answer = generate_answers
    if parallelism == "distributed":
        answer = answer_together(answer)
    answers = answer_rows(model, rows, answer)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
    parts = {
        name: (each.to_local().numel(), each.numel(), str(each.dtype), each.requires_grad)
        for name, each in model.named_parameters()
        if isinstance(each, DTensor)
    }
    return {
        "losses": losses,
        "state": result.state,
        "steps": result.steps,
        "tokens": result.tokens,
        "before": before,
        "answers": answers,
        "parts": meeting.gather(parts),
        "num_frozen": num_frozen,
        "num_parameters": sum(1 for _ in model.parameters()),
    }


def answer_rows(model: Any, rows: list[dict[str, list[int]]], answer: Answer) -> Any:
    prompts = [row["input_ids"][:-2] for row in rows[:5]]
    return answer(
        model, prompts, batch_size=2, max_new_tokens=4, stop_token_ids=[2], pad_token_id=0
    )
