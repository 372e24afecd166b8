"""What a training run says while it runs (loss, tokens per second, time left), and when it died."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from glm_experiments.record.errors import Diverged

log = logging.getLogger(__name__)

Logger = Callable[[int, dict[str, float]], None]


class Progress(TrainerCallback):
    """Logs every logging step, and shows a bar on a terminal.

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
        self._bar: Any = None

    @property
    def tokens_per_second(self) -> float | None:
        """Over all steps of this process but the first, evaluations and checkpoints left out."""
        return self.tokens / self.seconds if self.seconds > 0 else None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.is_main and sys.stderr.isatty():
            self._bar = tqdm(
                total=state.max_steps, initial=state.global_step, unit="step", dynamic_ncols=True
            )

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
        if self._bar is not None:
            self._bar.update(1)

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
        if "eval_loss" in logs:
            values = {"validation/loss": logs["eval_loss"]}
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
            self._show(step, state.max_steps, values)
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
        if self._bar is not None:
            self._bar.close()

    def _show(self, step: int, num_steps: int, values: dict[str, float]) -> None:
        shown = [f"{key.rpartition('/')[2]} {value:.4g}" for key, value in values.items()]
        if "validation/loss" in values:
            shown[0] = f"validation loss {values['validation/loss']:.4g}"
        line = f"step {step}/{num_steps}: {', '.join(shown)}"
        if self.num_timed_steps:
            left = self.seconds / self.num_timed_steps * (num_steps - step)
            line += f", {format_seconds(left)} left"
        if self._bar is None:
            log.info(line)
        else:
            self._bar.set_postfix_str(", ".join(shown[:1] + shown[-1:]))
            log.debug(line)


LOGGED = ("loss", "grad_norm", "learning_rate", "epoch")


def format_seconds(seconds: float) -> str:
    """1:02:03 or 02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"
