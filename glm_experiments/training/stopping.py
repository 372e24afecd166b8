"""Why a training stops before its last step: a signal, after which the step is finished and a
checkpoint kept, or a validation loss that falls no more."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from transformers import (
    EarlyStoppingCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from glm_experiments.processes.meeting import largest
from glm_experiments.record.errors import Interrupted
from glm_experiments.record.signals import STOPPING, handled

log = logging.getLogger(__name__)


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Inside, the first signal asks for a stop and the second one stops at once."""
    request = StopRequest()
    with handled(request.receive, *STOPPING):
        yield request


class StopRequest(TrainerCallback):
    """A stop after a whole step, with a checkpoint, once a signal has asked for it.

    Of several processes all stop after the same step.
    """

    def __init__(self) -> None:
        self._received: int | None = None

    def receive(self, signum: int, _frame: FrameType | None) -> None:
        """The signals' handler."""
        if self._received is not None:
            raise Interrupted(signum)
        self._received = signum
        log.warning("stopping after this step, with a checkpoint; once more stops at once")

    def agree(self) -> int | None:
        """The signal that any process has received; all must ask."""
        return largest(self._received or 0) or None

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        if self.agree() is not None:
            control.should_save = True
            control.should_training_stop = True


class EarlyStop(EarlyStoppingCallback):
    """A stop after so many evaluations without a lower validation loss."""

    def __init__(self, *, patience: int, num_worse: int) -> None:
        """num_worse: evaluations since the best one, in a training that is continued."""
        super().__init__(early_stopping_patience=patience)
        self.early_stopping_patience_counter = num_worse

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """The library warns here that the best state isn't loaded at the end; ours is."""
