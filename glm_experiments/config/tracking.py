"""Where runs are compared: one schema a tracker."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from glm_experiments.config.rules import positive


class TrackingMode(StrEnum):
    online = "online"
    offline = "offline"


@dataclass(kw_only=True, slots=True)
class TrackingConfig:
    """Where runs are compared."""

    name: str

    def problems(self) -> list[str]:
        return []


@dataclass(kw_only=True, slots=True)
class WandbConfig(TrackingConfig):
    project: str
    """The study."""
    entity: str | None
    group: str | None
    """null: the sweep's folder name, or none for a single run."""
    tags: list[str]
    """Beside the names of model, tuner, parallelism and data."""
    mode: TrackingMode | None
    """null: WANDB_MODE, else online where a key is set, else offline."""
    log_adapter: bool
    """Upload the adapter as an artifact."""
    init_timeout_seconds: float
    finish_timeout_seconds: float

    def problems(self) -> list[str]:
        return positive(
            "tracking",
            {
                "init_timeout_seconds": self.init_timeout_seconds,
                "finish_timeout_seconds": self.finish_timeout_seconds,
            },
        )


@dataclass(kw_only=True, slots=True)
class TensorboardConfig(TrackingConfig):
    """Event files in the run's folder."""


@dataclass(kw_only=True, slots=True)
class TrackioConfig(TrackingConfig):
    project: str
    group: str | None


@dataclass(kw_only=True, slots=True)
class DisabledConfig(TrackingConfig):
    """Only the run's own record."""
