"""The whole config of a run, and the rules that join its sections."""

from __future__ import annotations

from dataclasses import dataclass

from glm_experiments.config.data import DataConfig, FilesConfig
from glm_experiments.config.evaluation import EvaluationConfig
from glm_experiments.config.model import Dtype, ModelConfig, Weights
from glm_experiments.config.objective import Objective, objective_problems, read_objective
from glm_experiments.config.parallelism import ParallelismConfig
from glm_experiments.config.rules import check
from glm_experiments.config.tracking import TrackingConfig
from glm_experiments.config.training import TrainingConfig, batch_problems
from glm_experiments.config.tuner import OwnWeights, TrainableDtype, TunerConfig


@dataclass(kw_only=True, slots=True)
class Config:
    """One run."""

    name: str
    seed: int
    objective: str | None
    """What a sweeper optimises, measured after training: SET/METRIC, or METRIC of the task's own
    set; null: that set's loss. Whether less or more is better, the sweeper knows."""
    model: ModelConfig
    tuner: TunerConfig
    parallelism: ParallelismConfig
    data: DataConfig
    training: TrainingConfig
    evaluation: EvaluationConfig
    tracking: TrackingConfig

    def problems(self) -> list[str]:
        sections = (
            self.model,
            self.tuner,
            self.parallelism,
            self.data,
            self.training,
            self.evaluation,
            self.tracking,
        )
        problems: list[str] = []
        check(
            problems,
            0 <= self.seed < 2**32,
            f"seed must be at least 0 and below 2**32, got {self.seed}; type e.g. seed=0",
        )
        check(problems, bool(self.name.strip()), "name is blank; type e.g. name=my_run")
        return [
            *problems,
            *(problem for section in sections for problem in section.problems()),
            *self.batch_problems(),
            *self.validation_problems(),
            *self.objective_problems(),
            *self.random_weights_problems(),
            *self.precision_problems(),
        ]

    def batch_problems(self) -> list[str]:
        """The batch must be a whole number of micro batches on every device."""
        replicas = self.parallelism.num_replicas()
        if replicas is None:
            return []  # known, and checked, when the run has its devices
        return batch_problems(self.training, replicas, self.parallelism.num_in_flight())

    def validation_problems(self) -> list[str]:
        """Whatever measures needs held-out rows."""
        wants = {
            "objective=null": self.objective is not None,
            "evaluation.before=false": self.evaluation.before,
            "evaluation.after=false": self.evaluation.after,
            "training.eval_steps=null": self.training.eval_steps is not None,
        }
        if self.holds_out() or not any(wants.values()):
            return []
        return [
            "there is nothing to evaluate on: data.num_validation_rows is 0; type e.g. "
            f"data.num_validation_rows=100, or {' '.join(k for k, v in wants.items() if v)}"
        ]

    def holds_out(self) -> bool:
        """Whether there are validation sets."""
        return self.data.num_validation_rows > 0 or (
            isinstance(self.data, FilesConfig) and self.data.validation_path is not None
        )

    def objective_problems(self) -> list[str]:
        """An objective that was asked for is measured."""
        if self.objective is None or not self.holds_out():
            return []
        return objective_problems(self.objective, data=self.data, evaluation=self.evaluation)

    def aim(self) -> Objective | None:
        """What is measured for a sweeper; None where nothing is held out."""
        return read_objective(self.objective, self.data) if self.holds_out() else None

    def random_weights_problems(self) -> list[str]:
        """Adapters beside random weights learn nothing."""
        is_all_trained = self.tuner.own_weights is OwnWeights.all
        if self.model.weights is Weights.random and not is_all_trained:
            return [
                f"tuner={self.tuner.name} would leave the random weights of model.weights=random "
                "as they are; type tuner=full, or model.weights=pretrained"
            ]
        return []

    def precision_problems(self) -> list[str]:
        """What trains is at least as precise as what it is computed with."""
        if self.tuner.dtype is TrainableDtype.float32:
            return []
        if self.model.dtype in (Dtype.bfloat16, Dtype.auto):
            return []  # auto: asked again once it is known
        return [
            f"tuner.dtype={self.tuner.dtype} with model.dtype={self.model.dtype} would lose what "
            "is learned; type tuner.dtype=float32, or model.dtype=bfloat16"
        ]
