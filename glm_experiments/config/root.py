"""The whole config of a run, and the rules that join its sections."""

from __future__ import annotations

from dataclasses import dataclass

from glm_experiments.config.data import DataConfig, FilesConfig
from glm_experiments.config.evaluation import EvaluationConfig
from glm_experiments.config.model import Dtype, ModelConfig, Weights
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
        has_rows = self.data.num_validation_rows > 0 or (
            isinstance(self.data, FilesConfig) and self.data.validation_path is not None
        )
        wants = {
            "evaluation.before=false": self.evaluation.before,
            "evaluation.after=false": self.evaluation.after,
            "training.eval_steps=null": self.training.eval_steps is not None,
        }
        if has_rows or not any(wants.values()):
            return []
        return [
            "there is nothing to evaluate on: data.num_validation_rows is 0; type e.g. "
            f"data.num_validation_rows=100, or {' '.join(k for k, v in wants.items() if v)}"
        ]

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
        if self.tuner.dtype is TrainableDtype.float32 or self.model.dtype is Dtype.bfloat16:
            return []
        return [
            f"tuner.dtype={self.tuner.dtype} with model.dtype={self.model.dtype} would lose what "
            "is learned; type tuner.dtype=float32, or model.dtype=bfloat16"
        ]
