"""What every kind of tuning answers; one subclass a kind, each in its own module.

Knows no kind by name: `choosing` does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from transformers import PreTrainedModel

from glm_experiments.config import TrainableDtype, TunerConfig
from glm_experiments.tuners.weights import fill, read_tensors, trainable_parameters

WEIGHTS = "adapter_model.safetensors"
C = TypeVar("C", bound=TunerConfig)


class Tuner(ABC, Generic[C]):
    """One kind of tuning; holds nothing.

    What has a body here suits a tuner that trains weights of the model's own.
    """

    unmergeable: ClassVar[str | None] = None
    """Why what trains can't become part of the model's weights, and what to do; None: it can."""

    @abstractmethod
    def apply(self, model: PreTrainedModel, config: C, *, seed: int) -> None:
        """Make the model trainable, in place: what trains has requires_grad, all else has not.

        New parameters are drawn from `seed` alone.

        Raises:
            ValueError: for settings that don't fit the model.
        """

    @abstractmethod
    def insert(self, model: PreTrainedModel, config: C) -> None:
        """Make the same parameters trainable, with arbitrary numbers: a saved state fills them."""

    def remove(self, model: PreTrainedModel) -> None:
        """Take away what `insert` added, as far as it got; an adapter was refused."""
        return

    def settle(self, model: PreTrainedModel, *, dtype: torch.dtype) -> None:
        """Give what trained the precision that it has once it is loaded; dtype: the base's."""
        for parameter in trainable_parameters(model).values():
            parameter.data = parameter.data.to(dtype)

    def merge(self, model: PreTrainedModel) -> None:
        """Put what was trained into the model's own weights; the caller sees to their precision."""
        return

    def fold(self, model: PreTrainedModel, settings: dict[str, Any]) -> dict[str, Any] | None:
        """Replace what only training needs by what it comes to, under names that trained, too.

        Returns the settings of what is there now; None: there is nothing to replace.
        """
        return None

    def read_config(self, schema: type[C], settings: dict[str, Any]) -> C | None:
        """Saved settings as the config that `load` wants.

        Raises:
            KeyError, TypeError, ValueError: where they are none of this tuner's.
        """
        return schema(**{**settings, "dtype": TrainableDtype(settings["dtype"])})

    def load(self, model: PreTrainedModel, config: C | None, *, folder: Path, base: str) -> None:
        """Put what a folder of ours holds onto its base, in place.

        Raises:
            ValueError: where it doesn't fit; `remove` brings the model back.
        """
        assert config is not None
        self.insert(model, config)
        state, expected = read_tensors(folder / WEIGHTS), set(trainable_parameters(model))
        fill(model, state, source=folder, base=base, expected=expected)

    def plan_companions(
        self, model: PreTrainedModel, *, base: str, revision: str | None
    ) -> Callable[[Path], None] | None:
        """What writes the files that go beside the weights; None: there are none.

        base, revision: by which the base is loaded again.
        """
        return None

    def to_file_name(self, name: str) -> str:
        """A parameter's name -> its name in the file of weights."""
        return name

    def from_file_name(self, name: str) -> str:
        """A name in the file of weights -> the parameter's name."""
        return name
