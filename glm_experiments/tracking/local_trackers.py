"""Trackers that keep a run on this machine: tensorboard's event files, trackio's database."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from glm_experiments.config import TrackioConfig
from glm_experiments.nesting import flatten_values
from glm_experiments.record.files import TENSORBOARD
from glm_experiments.record.masking import mask_secrets
from glm_experiments.record.writing import encode_json
from glm_experiments.tracking.description import RunDescription, run_id_for

MEASURED, BEFORE, AFTER = "metrics/", "metrics/before/", "metrics/after/"
"""What keys of a summary begin with."""
log = logging.getLogger(__name__)


class TensorboardTracker:
    """Event files in the run's folder."""

    def __init__(self, description: RunDescription) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(description.folder / TENSORBOARD))
        self.config = mask_secrets(dict(description.config))
        self.last_step = 0
        self.metrics: dict[str, float] = {}
        self.write_text("config", self.config)
        log.info("to see the run type: tensorboard --logdir %s", description.folder)

    def write_text(self, name: str, value: Any) -> None:
        self.writer.add_text(name, f"```\n{encode_json(value, indent=2)}\n```")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self.writer.add_scalar(key, value, step)
        self.last_step = step
        self.writer.flush()

    def summarise(self, values: Mapping[str, Any]) -> None:
        """What was measured is a figure at the step at which it was, too."""
        self.write_text("summary", values)
        for key, value in values.items():
            if not key.startswith(MEASURED) or not isinstance(value, int | float):
                continue
            self.metrics[key] = value
            self.writer.add_scalar(key, value, 0 if key.startswith(BEFORE) else self.last_step)

    def log_adapter(self, folder: Path) -> None:
        """The adapter lies in the run's folder anyway."""

    def finish(self, *, failed: bool) -> None:
        """Close, with the config and what came of it in the table of hyperparameters."""
        from torch.utils.tensorboard.summary import hparams

        settings = {
            key: value if isinstance(value, bool | int | float | str) else str(value)
            for key, value in flatten_values(self.config).items()
            if value is not None
        }
        results = {key: value for key, value in self.metrics.items() if key.startswith(AFTER)}
        # `add_hparams` would write the results once more, as another run below this one's folder.
        events: Any = self.writer.file_writer
        for summary in hparams(settings, results):  # type: ignore[no-untyped-call]
            events.add_summary(summary)
        self.writer.close()


class TrackioTracker:
    """A run in trackio's local database."""

    def __init__(self, config: TrackioConfig, description: RunDescription) -> None:
        import trackio

        with redirect_stdout(io.StringIO()):
            self.run = trackio.init(
                project=config.project,
                # A name is an identity there.
                name=f"{description.name} {run_id_for(description.folder)}",
                group=config.group or description.group,
                config=mask_secrets(dict(description.config)),
                resume="allow",
                embed=False,
            )
        log.info("to see the run type: trackio show --project %s", config.project)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def summarise(self, values: Mapping[str, Any]) -> None:
        self.run.log({f"summary/{key}": value for key, value in values.items()})

    def log_adapter(self, folder: Path) -> None:
        """The adapter lies in the run's folder anyway."""

    def finish(self, *, failed: bool) -> None:
        import trackio

        with redirect_stdout(io.StringIO()):
            trackio.finish()  # the run's own method would leave it to be finished once more at exit
