"""What a sweeper optimises: a figure of one validation set, measured after training."""

from __future__ import annotations

from dataclasses import dataclass

from glm_experiments.config.data import DataConfig
from glm_experiments.config.evaluation import EvaluationConfig
from glm_experiments.config.rules import check

LOSS = "loss"


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """A validation set and the name of a figure of it."""

    set_name: str
    metric: str

    def __str__(self) -> str:
        return f"{self.set_name}/{self.metric}"


def read_objective(text: str | None, data: DataConfig) -> Objective:
    """`SET/METRIC`, or METRIC of the task's own set; None: that set's loss."""
    set_name, _, metric = (LOSS if text is None else text).rpartition("/")
    return Objective(set_name=set_name or data.validation_sets[0], metric=metric)


def objective_problems(text: str, *, data: DataConfig, evaluation: EvaluationConfig) -> list[str]:
    """What keeps an objective that was asked for from being measured."""
    objective = read_objective(text, data)
    own, metric = data.validation_sets[0], objective.metric
    known = (LOSS, *evaluation.scores())
    problems: list[str] = []
    check(
        problems,
        objective.set_name in data.validation_sets,
        f"objective={text}: data={data.name} holds out {', '.join(data.validation_sets)}, not "
        f"{objective.set_name}; type objective={own}/{metric}",
    )
    check(
        problems,
        metric in known,
        f"objective={text}: {metric} is not of evaluation.metrics; type objective="
        f"{objective.set_name}/METRIC with one of {', '.join(known)}",
    )
    check(
        problems,
        metric not in known or metric == LOSS or evaluation.after,
        f"objective={text} is measured after training; type evaluation.after=true, or "
        f"objective={objective.set_name}/{LOSS}",
    )
    return problems


def is_better_low(objective: str) -> bool:
    """Whether less of an objective is better."""
    return objective.rpartition("/")[2] in (LOSS, "perplexity")
