"""Where a run shows itself beside others: wandb, tensorboard or trackio, or nowhere.

A tracker is told what happens and never decides anything: whatever goes wrong with it costs a
bounded wait and a warning, not the run. Knows no torch model and no data.
"""

from __future__ import annotations

import importlib.util
import io
import logging
import os
import secrets
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from glm_experiments.config import (
    TensorboardConfig,
    TrackingConfig,
    TrackingMode,
    TrackioConfig,
    WandbConfig,
)
from glm_experiments.results import encode_json, mask_secrets

log = logging.getLogger(__name__)

RUN_ID_FILE = "tracked_run_id"
LONGEST_NAME = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class RunDescription:
    """What a tracker shows of a run before it starts.

    name: of a sweep's job what `describe_swept_keys` says. folder: the run's own. group: the sweep.
    job_type: the tuner. tags: names of model, parallelism and data. config: nested, resolved.
    """

    name: str
    folder: Path
    group: str | None
    job_type: str
    tags: Sequence[str]
    config: Mapping[str, Any]


class Tracker(Protocol):
    """One run at one tracker."""

    def log(self, step: int, values: Mapping[str, float]) -> None: ...

    def summarise(self, values: Mapping[str, Any]) -> None: ...

    def log_adapter(self, folder: Path) -> None: ...

    def finish(self, *, failed: bool) -> None: ...


class TrackedRun:
    """Tells a tracker about a run until the tracker fails; None: tells nobody.

    errors: what a tracker raises that is at fault itself.
    """

    def __init__(self, tracker: Tracker | None, *, errors: tuple[type[Exception], ...]) -> None:
        self._tracker = tracker
        self._errors = errors

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Values of a step, such as `train/loss`; steps may repeat, and go back after a resume."""
        self._tell(lambda tracker: tracker.log(step, values))

    def summarise(self, values: Mapping[str, Any]) -> None:
        """What the run came to; nested keys are joined by a slash."""
        self._tell(lambda tracker: tracker.summarise(flatten(values)))

    def log_adapter(self, folder: Path) -> None:
        """Keep the adapter's files with the run, where the config chose so."""
        self._tell(lambda tracker: tracker.log_adapter(folder))

    def finish(self, *, failed: bool) -> None:
        """Send what is left, for a bounded time."""
        self._tell(lambda tracker: tracker.finish(failed=failed))
        self._tracker = None

    def _tell(self, tell: Callable[[Tracker], None]) -> None:
        if self._tracker is None:
            return
        try:
            tell(self._tracker)
        except self._errors as error:
            self._tracker = None
            log.warning(
                "tracking ends here (%s); the run goes on, and its folder has everything",
                one_line(error),
            )


@contextmanager
def open_tracked_run(config: TrackingConfig, description: RunDescription) -> Iterator[TrackedRun]:
    """One run at the tracker of `config`, finished with the block and marked by how it ended."""
    errors = tracker_errors(config)
    run = TrackedRun(start_tracker(config, description, errors=errors), errors=errors)
    failed = True
    try:
        yield run
        failed = False
    finally:
        run.finish(failed=failed)


def check_tracker(config: TrackingConfig) -> None:
    """Find out before the work begins what would keep the tracker from starting.

    Raises:
        RuntimeError: its package is missing.
        ValueError: WANDB_MODE names no mode.
    """
    if config.name != "disabled" and importlib.util.find_spec(config.name) is None:
        raise RuntimeError(
            f"tracking={config.name} needs the package {config.name}; type "
            f"pip install {config.name}, or tracking=disabled"
        )
    if isinstance(config, WandbConfig):
        read_wandb_mode()


def tracker_errors(config: TrackingConfig) -> tuple[type[Exception], ...]:
    """What a tracker raises where it, its server or its disk is at fault."""
    errors = (OSError, RuntimeError, ValueError, TypeError, sqlite3.Error)
    if not isinstance(config, WandbConfig):
        return errors
    import wandb

    # wandb 0.31 lets these through when its service dies or refuses.
    from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError
    from wandb.sdk.mailbox.mailbox_handle import ServerResponseError

    return (*errors, wandb.Error, HandleAbandonedError, MailboxClosedError, ServerResponseError)


def start_tracker(
    config: TrackingConfig, description: RunDescription, *, errors: tuple[type[Exception], ...]
) -> Tracker | None:
    """The tracker of `config`, or None where it is disabled or can't start."""
    try:
        match config:
            case WandbConfig():
                return start_wandb(config, description, errors=errors)
            case TensorboardConfig():
                return TensorboardTracker(description)
            case TrackioConfig():
                return TrackioTracker(config, description)
    except errors as error:
        log.warning("tracking=%s can't start and is left out: %s", config.name, one_line(error))
    return None


def run_id_for(folder: Path) -> str:
    """The id of the run in `folder`, kept there: a resumed run goes on under its own."""
    file = folder / RUN_ID_FILE
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(secrets.token_hex(6) + "\n")
    return file.read_text().strip()


def describe_swept_keys(config: Mapping[str, Any], keys: Sequence[str]) -> str:
    """What tells a job of a sweep from the others, e.g. `r=8 tuner=lora`; empty without `keys`.

    A key that is no part of the config (an experiment) shows in the values it brings, not here.
    """
    last_parts = Counter(key.rpartition(".")[2] for key in keys)
    parts = []
    for key in keys:
        value: Any = config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, Mapping):
            value = value.get("name")
        last = key.rpartition(".")[2]
        if value is not None:
            parts.append(f"{last if last_parts[last] == 1 else key}={value}")
    return " ".join(parts)[:LONGEST_NAME]


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{a: {b: 1}}` as `{a/b: 1}`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}/")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def one_line(error: Exception) -> str:
    """Type and message of an error."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")


def read_wandb_mode() -> str | None:
    """The mode that WANDB_MODE asks for: online, offline, disabled; None where it is not set."""
    mode = os.environ.get("WANDB_MODE")
    modes = {None: None, "run": "online", "dryrun": "offline"}
    modes |= {mode: mode for mode in ("online", "offline", "disabled")}
    if mode not in modes:
        raise ValueError(
            f"WANDB_MODE={mode} is no mode; type online, offline or disabled, or unset WANDB_MODE"
        )
    return modes[mode]


def start_wandb(
    config: WandbConfig, description: RunDescription, *, errors: tuple[type[Exception], ...]
) -> Tracker | None:
    """A wandb run: online where that is wanted and works, else offline, said in one line."""
    mode = config.mode or read_wandb_mode()
    if mode == "disabled":
        return None
    import wandb

    # Everything that it prints: what matters of it is logged here.
    quiet = wandb.Settings(silent=True)
    wandb.setup(quiet)
    level, reason = logging.INFO, "offline was asked for"
    if mode != TrackingMode.offline:
        try:
            if wandb.login(verify=False, prompt=False):
                return WandbTracker(config, description, mode=TrackingMode.online)
            reason = "no API key is set, see wandb login"
        except errors as error:
            level, reason = logging.WARNING, f"the server can't be used: {one_line(error)}"
            # The service would still hold the run's id for the run that failed to start.
            with suppress(SystemExit, *errors):
                wandb.teardown()
            wandb.setup(quiet)
    tracker = WandbTracker(config, description, mode=TrackingMode.offline)
    log.log(level, "wandb is offline (%s); to upload type: %s", reason, tracker.sync_command)
    return tracker


class WandbTracker:
    """A run at Weights & Biases. Everything goes through `init`: variables may be read once only.

    Raises:
        wandb.Error: the server can't be used, within `init_timeout_seconds`.
    """

    def __init__(
        self,
        config: WandbConfig,
        description: RunDescription,
        *,
        mode: TrackingMode,
    ) -> None:
        import wandb

        self.keeps_adapter = config.log_adapter
        settings = wandb.Settings(
            silent=True,
            console="off",
            symlink=False,
            # The run's record has these, without what a command line may say in secret.
            disable_git=True,
            disable_code=True,
            disable_job_creation=True,
            save_code=False,
            x_disable_meta=True,
            x_save_requirements=False,
            init_timeout=config.init_timeout_seconds,
            finish_timeout=config.finish_timeout_seconds,
            finish_timeout_raises=True,
        )
        self.run = wandb.init(
            project=config.project,
            entity=config.entity,
            group=config.group or description.group,
            job_type=description.job_type,
            tags=[*description.tags, *config.tags],
            name=description.name,
            id=run_id_for(description.folder),
            config=mask_secrets(dict(description.config)),
            dir=str(description.folder),
            mode=mode.value,
            # An open run of the same process would otherwise be handed out again.
            reinit="create_new",
            resume="allow" if mode is TrackingMode.online else None,
            settings=settings,
        )
        self.sync_command = f"wandb sync {Path(self.run.dir).parent}"
        self.run.define_metric("step", hidden=True)
        self.run.define_metric("*", step_metric="step")
        for metric in ("train/loss", "validation/loss"):
            self.run.define_metric(metric, step_metric="step", summary="min,last")
        if mode is TrackingMode.online:
            log.info("tracked at %s", self.run.url)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        # Not as wandb's own step, which must never go back.
        self.run.log({"step": step, **values})

    def summarise(self, values: Mapping[str, Any]) -> None:
        self.run.summary.update(dict(values))

    def log_adapter(self, folder: Path) -> None:
        if self.keeps_adapter:
            import wandb

            artifact = wandb.Artifact(f"adapter-{self.run.id}", type="adapter")
            artifact.add_dir(str(folder))
            self.run.log_artifact(artifact)

    def finish(self, *, failed: bool) -> None:
        try:
            self.run.finish(exit_code=int(failed))
        except TimeoutError:
            log.warning("wandb didn't get everything in time; type: %s", self.sync_command)


class TensorboardTracker:
    """Event files in the run's folder."""

    def __init__(self, description: RunDescription) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(description.folder / "tensorboard"))
        self.write_text("config", mask_secrets(dict(description.config)))
        log.info("to see the run type: tensorboard --logdir %s", description.folder)

    def write_text(self, name: str, value: Any) -> None:
        self.writer.add_text(name, f"```\n{encode_json(value, indent=2)}\n```")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self.writer.add_scalar(key, value, step)
        self.writer.flush()

    def summarise(self, values: Mapping[str, Any]) -> None:
        self.write_text("summary", values)

    def log_adapter(self, folder: Path) -> None:
        """The adapter lies in the run's folder anyway."""

    def finish(self, *, failed: bool) -> None:
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
