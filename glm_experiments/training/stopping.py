"""SIGINT and SIGTERM while training: finish the step, keep a checkpoint, then stop."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from glm_experiments.processes.meeting import largest
from glm_experiments.results import Interrupted

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest(TrainerCallback):
    """A context in which the first signal asks for a stop and the second one stops at once.

    Of several processes all stop after the same step.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._received: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {each: signal.signal(each, self._receive) for each in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        if self._received is not None:
            raise Interrupted(signum)
        self._received = signum
        log.warning("stopping after this step, with a checkpoint; once more stops at once")

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        self.signum = largest(self._received or 0) or None
        if self.signum is not None:
            control.should_save = True
            control.should_training_stop = True
