"""A run at Weights & Biases: online where that is wanted and works, else offline."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from glm_experiments.config import TrackingMode, WandbConfig
from glm_experiments.record.masking import mask_secrets
from glm_experiments.tracking.description import RunDescription, one_line, run_id_for
from glm_experiments.tracking.faults import Faults

log = logging.getLogger(__name__)


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
    config: WandbConfig, description: RunDescription, *, faults: Faults
) -> WandbTracker | None:
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
        except faults() as error:
            level, reason = logging.WARNING, f"the server can't be used: {one_line(error)}"
            # The service would still hold the run's id for the run that failed to start.
            with suppress(SystemExit, *faults()):
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
        self.losses: set[str] = set()
        if mode is TrackingMode.online:
            log.info("tracked at %s", self.run.url)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        # One by one: wandb's glob for all metrics wins over one for some of them.
        for key in sorted({key for key in values if key.endswith("/loss")} - self.losses):
            self.run.define_metric(key, step_metric="step", summary="min,last")
            self.losses.add(key)
        # Not as wandb's own step, which must never go back.
        self.run.log({"step": step, **values})

    def summarise(self, values: Mapping[str, Any]) -> None:
        # A loss that was logged has its smallest and its last value there already.
        self.run.summary.update({key: values[key] for key in values.keys() - self.losses})

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
