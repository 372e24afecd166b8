"""What a training run says while it runs (loss, tokens per second, time left), and when it died."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from glm_experiments.live import Bar, format_seconds, show_bar
from glm_experiments.record.errors import Diverged
from glm_experiments.training.validation import DECIDING, read_losses

log = logging.getLogger(__name__)

Logger = Callable[[int, dict[str, float]], None]


class Progress(TrainerCallback):
    """Logs every logging step, or shows a bar on a terminal: inside, until the training ends.

    count_tokens: real (non-padding) tokens trained so far, over all processes.
    log_values: receives the step and its values.
    """

    def __init__(
        self, *, count_tokens: Callable[[], int], log_values: Logger, is_main: bool
    ) -> None:
        self.count_tokens = count_tokens
        self.log_values = log_values
        self.is_main = is_main
        self.last_loss: float | None = None
        self.seconds = 0.0
        self.tokens = 0
        self.num_timed_steps = 0
        self._clock: tuple[float, int] | None = None
        self._bar: Bar | None = None
        self._figures = ""
        self._shown = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._shown.close()

    @property
    def tokens_per_second(self) -> float | None:
        """Over all steps of this process but the first, evaluations and checkpoints left out."""
        return self.tokens / self.seconds if self.seconds > 0 else None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.is_main:
            self._bar = self._shown.enter_context(show_bar("training", unit="steps", stays=True))
            self._draw(state)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        now, tokens = time.perf_counter(), self.count_tokens()
        if self._clock is not None:
            self.seconds += now - self._clock[0]
            self.tokens += tokens - self._clock[1]
            self.num_timed_steps += 1
        self._clock = (now, tokens)
        if state.global_step >= state.max_steps:
            control.should_log = True  # the last step's loss, wherever the cadence ends
        self._draw(state)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._clock = None

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._clock = None

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        logs = logs or {}
        if DECIDING in logs:
            losses = read_losses(logs)
            values = {f"validation/{name}/loss": loss for name, loss in losses.items()}
        elif "loss" in logs:
            values = {f"train/{key}": value for key, value in logs.items() if key in LOGGED}
        else:
            return  # the library's summary at the end
        step = state.global_step
        rate = self.tokens_per_second
        if rate is not None:
            values["train/tokens_per_second"] = rate
        if self.is_main:
            self.log_values(step, values)
            self._show(state, values)
        if "train/loss" in values:
            self.last_loss = values["train/loss"]
            if not math.isfinite(self.last_loss):
                raise Diverged(
                    f"the loss is {self.last_loss} at step {step}; type e.g. "
                    f"training.learning_rate={args.learning_rate / 10:g}"
                )

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._shown.close()

    def _show(self, state: TrainerState, values: dict[str, float]) -> None:
        step, num_steps = state.global_step, state.max_steps
        # `loss` of the training, `identity loss` of a validation set.
        shown = [
            f"{key.partition('/')[2].replace('/', ' ')} {value:.4g}"
            for key, value in values.items()
        ]
        line = ", ".join([f"step {step}/{num_steps}: {shown[0]}", *shown[1:], *self._left(state)])
        if self._bar is None or self._bar.is_logged:
            log.info(line)
        else:
            log.debug(line)
        rate = values.get("train/tokens_per_second")
        self._figures = shown[0] if rate is None else f"{shown[0]}, {rate:,.0f} tokens/s"
        self._draw(state)

    def _left(self, state: TrainerState) -> list[str]:
        """The time left, once a step has been timed."""
        if not self.num_timed_steps:
            return []
        left = self.seconds / self.num_timed_steps * (state.max_steps - state.global_step)
        return [f"{format_seconds(left)} left"]

    def _draw(self, state: TrainerState) -> None:
        if self._bar is not None:
            figures = [self._figures] if self._figures else []
            note = ", ".join([*figures, *self._left(state)])
            self._bar.show(state.global_step, total=state.max_steps, note=note)


LOGGED = ("loss", "grad_norm", "learning_rate", "epoch")
