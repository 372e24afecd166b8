"""Short trainings of tiny random models through the training loop, for the tests of this folder."""

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from glm_experiments.config import TrainingConfig
from glm_experiments.data.collation import Collator
from glm_experiments.models.architectures.loss import apply_label_only_loss
from glm_experiments.processes.meeting import num_processes
from glm_experiments.training.activation_checkpointing import apply_activation_checkpointing
from glm_experiments.training.arguments import Precision, TrainingPlan, plan_batch
from glm_experiments.training.checkpoints import Start, find_checkpoint
from glm_experiments.training.loop import Trainable, TrainingResult, train
from glm_experiments.tuners import TunerAdapter, apply_tuner
from tests.tuners import tiny_models

CONF = Path(__file__).resolve().parents[2] / "conf"
TARGETS = {"glm": ["q_proj", "v_proj"], "chatglm": ["query_key_value"]}
TUNERS = ("lora", "p_tuning_v2", "projection", "freeze", "full")
QUICK = {("lora", "glm"), ("projection", "chatglm"), ("full", "chatglm")}
PAIRS = [
    pytest.param(tuner, kind, marks=() if (tuner, kind) in QUICK else pytest.mark.slow)
    for tuner in TUNERS
    for kind in TARGETS
]


def tuner_config(name: str, kind: str, **changes: Any) -> Any:
    match name:
        case "lora":
            return tiny_models.lora_config(**{"target_modules": TARGETS[kind], **changes})
        case "p_tuning_v2":
            return tiny_models.p_tuning_config(**changes)
        case "projection":
            return tiny_models.p_tuning_config(prefix_projection=True, **changes)
        case "freeze":
            return tiny_models.freeze_config(1)
        case _:
            return tiny_models.full_config()


def build_tuned(kind: str, tuner: str, *, device: str = "cpu", **changes: Any) -> Any:
    """A tiny model as the pipeline trains it; `changes` are the tuner's."""
    build = tiny_models.build_glm if kind == "glm" else tiny_models.build_chatglm
    model = apply_label_only_loss(build().to(device))
    return apply_tuner(model, tuner_config(tuner, kind, **changes))


def build_rows(kind: str, *, num_rows: int = 22, seed: int = 3) -> list[dict[str, list[int]]]:
    """Rows of 7 to 16 tokens with 1 to 8 labels: uneven in every way."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(num_rows):
        context = torch.randint(5, 50, (int(torch.randint(4, 7, (), generator=generator)),))
        answer = torch.randint(5, 50, (int(torch.randint(1, 9, (), generator=generator)),))
        special = [60, 61] if kind == "chatglm" else [60, 63]
        prompt = [*context.tolist(), *special]
        rows.append(
            {
                "input_ids": prompt + answer.tolist(),
                "labels": [-100] * len(prompt) + answer.tolist(),
            }
        )
    return rows


def training_config(**changes: Any) -> TrainingConfig:
    cfg = OmegaConf.load(CONF / "training" / "default.yaml")
    settings = {
        "batch_size": 8,
        "micro_batch_size": 2,
        "num_train_epochs": 2,
        "learning_rate": 1e-2,
        "logging_steps": 1,
    }
    schema = OmegaConf.structured(TrainingConfig)
    config = OmegaConf.to_object(OmegaConf.merge(schema, cfg, settings, changes))
    assert isinstance(config, TrainingConfig)
    return config


def run_training(
    model: Any,
    *,
    output_dir: Path,
    rows: list[dict[str, list[int]]],
    device: str = "cpu",
    num_micro_batches: int = 1,
    wrap: Any = None,
    **changes: Any,
) -> tuple[list[float], TrainingResult]:
    """The loss of every step, and the result; `changes` are the training section's."""
    config = training_config(**changes)
    losses: list[float] = []

    def log_values(_: int, values: dict[str, float]) -> None:
        if "train/loss" in values:
            losses.append(values["train/loss"])

    adapter = TunerAdapter(model, prompt_format="chatglm", base="tiny")
    model = apply_activation_checkpointing(model, config)
    module = model if wrap is None else wrap(model)
    result = train(
        Trainable(model=model, module=module, adapter=adapter),
        rows=rows,
        collate=Collator(0),
        plan=TrainingPlan(
            config=config,
            seed=0,
            device=torch.device(device),
            batch=plan_batch(
                config, num_processes=num_processes(), num_micro_batches=num_micro_batches
            ),
            precision=Precision(autocast=None, scales_loss=False),
        ),
        start=Start(checkpoint=find_checkpoint(config.resume, output_dir), settings={}),
        output_dir=output_dir,
        measure_losses=lambda _: {"validation": 0.0},
        log_values=log_values,
    )
    return losses, result
