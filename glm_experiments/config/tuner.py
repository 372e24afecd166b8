"""How a model is tuned: one schema a tuner."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from glm_experiments.config.rules import check, positive, within


class TrainableDtype(StrEnum):
    float32 = "float32"
    bfloat16 = "bfloat16"


class OwnWeights(StrEnum):
    """How many of the model's own weights a tuner trains; an adapter beside them is none."""

    none = "none"
    some = "some"
    all = "all"


@dataclass(kw_only=True, slots=True)
class TunerConfig:
    """How the model is tuned: which parameters move."""

    own_weights: ClassVar[OwnWeights]
    """Every tuner says it of itself; it is no setting."""

    name: str
    dtype: TrainableDtype
    """Precision in which the trained parameters and their optimizer state are kept."""

    @property
    def trains_own_weights(self) -> bool:
        """Whether any of the model's own weights train."""
        return self.own_weights is not OwnWeights.none

    def problems(self) -> list[str]:
        return []


@dataclass(kw_only=True, slots=True)
class LoraConfig(TunerConfig):
    """Low-rank adapters beside frozen linears, by peft (arXiv:2106.09685)."""

    own_weights: ClassVar[OwnWeights] = OwnWeights.none

    r: int
    lora_alpha: float
    lora_dropout: float
    target_modules: list[str]
    """Module names (their last part) that get an adapter."""
    use_rslora: bool
    """Scale by lora_alpha / sqrt(r) instead of lora_alpha / r (arXiv:2312.03732)."""
    use_dora: bool
    """Decompose into magnitude and direction (arXiv:2402.09353)."""

    def problems(self) -> list[str]:
        problems = positive("tuner", {"r": self.r, "lora_alpha": self.lora_alpha})
        problems += within("tuner", {"lora_dropout": self.lora_dropout}, 0, 1)
        check(
            problems,
            bool(self.target_modules),
            "tuner.target_modules is empty, so nothing would train; "
            "type e.g. 'tuner.target_modules=${model.attention_modules}'",
        )
        return problems


@dataclass(kw_only=True, slots=True)
class PTuningV2Config(TunerConfig):
    """Learned key/value pairs before the sequence in every layer (arXiv:2110.07602)."""

    own_weights: ClassVar[OwnWeights] = OwnWeights.none

    num_virtual_tokens: int
    prefix_projection: bool
    """Reparametrise the prefix by a two-layer tanh MLP while training."""
    prefix_dropout: float

    def problems(self) -> list[str]:
        problems = positive("tuner", {"num_virtual_tokens": self.num_virtual_tokens})
        return problems + within("tuner", {"prefix_dropout": self.prefix_dropout}, 0, 1)


@dataclass(kw_only=True, slots=True)
class FreezeConfig(TunerConfig):
    """Train the last layers, freeze the rest."""

    own_weights: ClassVar[OwnWeights] = OwnWeights.some

    num_trainable_layers: int

    def problems(self) -> list[str]:
        return positive("tuner", {"num_trainable_layers": self.num_trainable_layers})


@dataclass(kw_only=True, slots=True)
class FullConfig(TunerConfig):
    """Train every parameter."""

    own_weights: ClassVar[OwnWeights] = OwnWeights.all
