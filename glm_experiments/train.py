"""glm-train: composes a config, checks it, runs the job or the sweep.

Nothing here imports torch, so help, printing a config and a config's mistakes answer at once.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from glm_experiments import config
from glm_experiments.composing import checking
from glm_experiments.composing.grammar import quote_text
from glm_experiments.composing.help import render_help
from glm_experiments.composing.keeping import keep_config, secrets_of
from glm_experiments.composing.loader import PLUGINS
from glm_experiments.composing.origin import store_origins
from glm_experiments.processes import worker
from glm_experiments.processes.world import World, read_world
from glm_experiments.record.errors import Refused, RunFailed
from glm_experiments.record.files import RESULTS, list_left
from glm_experiments.record.masking import hide_in_log, mask_override
from glm_experiments.record.read_back import swept_value
from glm_experiments.record.run import lock_folder, record_run
from glm_experiments.record.signals import STOPPING, deferred, signal_of
from glm_experiments.starting import choose_start
from glm_experiments.streams import open_closed_streams
from glm_experiments.training.admission import Finished, admit

log = logging.getLogger(__name__)

MISTAKE = 1
# Hydra's own sweeper, and ours: those that have no use for what a job returns.
GRID = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
LAUNCHER = f"{PLUGINS}.ForkingLauncher"
GRIDS = (GRID, f"{PLUGINS}.GridSweeper")


def run_job(cfg: DictConfig, *, swept_keys: list[str]) -> float | None:
    """Run one job; Hydra calls it once a job and keeps what it returns or raises."""
    context = HydraConfig.get()
    is_swept = context.mode is RunMode.MULTIRUN
    folder = Path(context.runtime.output_dir)
    hide_in_log(secrets_of(cfg))
    with lock_folder(folder):
        try:
            parsed = config.parse(cfg)
            if is_swept and parsed.aim() is None and context.sweeper["_target_"] not in GRIDS:
                raise config.Impossible(
                    "nothing is held out, so there is nothing that this sweeper could optimise; "
                    "type e.g. data.num_validation_rows=100"
                )
            admission = admit(folder, config=config.to_plain(parsed))
        except (config.Impossible, Refused) as error:
            raise record_refusal(folder, cfg, str(error)) from None
        if isinstance(admission, Finished):
            log.info("%s holds this run, finished: nothing is left to do", folder)
            return swept_value(admission.outcome)
        keep_config(folder, cfg)
        try:
            from glm_experiments import experiment  # takes seconds, which a signal may end

            result = experiment.run(
                parsed,
                folder,
                checkpoint=admission.checkpoint,
                overrides=list(context.overrides.task),
                sweep=Path(context.sweep.dir).name if is_swept else None,
                swept_keys=swept_keys,
            )
        except KeyboardInterrupt as error:
            if not (folder / RESULTS).exists():
                record_end(folder, cfg, error)
            place = "" if is_swept else f" and hydra.run.dir={folder}"
            log.warning("to continue, type the same command%s", place)
            raise
    log.info("all of this run is in %s; try glm-chat on it", folder)
    return result


def record_refusal(folder: Path, cfg: DictConfig, message: str) -> RunFailed:
    """The failure of a job that is not let in; recorded where that hides nothing of another."""
    if not list_left(folder):
        record_end(folder, cfg, Refused(message))
    return RunFailed(message)


def record_end(folder: Path, cfg: DictConfig, error: BaseException) -> None:
    """Record what ended a job before its first stage."""
    plain = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    overrides = list(HydraConfig.get().overrides.task)
    with (
        suppress(RunFailed, KeyboardInterrupt),
        record_run(folder, name=cfg.name, config=plain, overrides=overrides),
    ):
        raise error


def hide_typed(message: str, overrides: list[str]) -> str:
    """A message in which overrides may stand, without the secrets in them."""
    for override in overrides:
        message = message.replace(override, mask_override(override))
    return message


def describe_job() -> str:
    """Which job of a sweep it is; empty for a single run."""
    context = HydraConfig.get()
    if context.mode is not RunMode.MULTIRUN:
        return ""
    overrides = " ".join(map(mask_override, context.overrides.task))
    return f"job {context.job.num} ({overrides}): "


def log_failure(message: str) -> None:
    """Log how a job failed. Of a single run it goes to the log's file only: its message is about
    to be the last line on the terminal, and need not stand there twice."""
    if HydraConfig.get().mode is RunMode.MULTIRUN:
        log.error("%s", message)
        return
    record = log.makeRecord(log.name, logging.ERROR, __file__, 0, message, (), None)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


def follow(world: World) -> None:
    """Take part in what the first process composes; torchrun started several."""
    worker.hush()
    from glm_experiments import experiment
    from glm_experiments.processes import meeting

    try:
        experiment.follow()
    except (ValueError, RuntimeError, OSError) as error:
        if meeting.are_dismissed():  # the first process has said what went wrong
            sys.exit(MISTAKE)
        sys.stderr.write(f"glm-train: process {world.rank}: {error}\n")
        sys.exit(MISTAKE)


def dismiss_followers() -> None:
    """Tell the processes that torchrun started beside this one that there is no more to do."""
    from glm_experiments.processes import meeting

    meeting.dismiss()


def main() -> None:
    """Console entry point; exits with 0, 1 (a message was printed), 129, 130 or 143."""
    open_closed_streams()
    world = read_world(os.environ)
    if world is not None and world.rank > 0:
        follow(world)
        return
    sys.argv[1:] = [each if each.startswith("-") else quote_text(each) for each in sys.argv[1:]]
    parser = get_args_parser()
    parser.allow_abbrev = False  # --experiment=NAME would be Hydra's --experimental-rerun
    arguments = parser.parse_args()
    failures: list[str] = []
    try:
        if arguments.help:
            print(
                render_help(
                    arguments.overrides,
                    config_dir=arguments.config_dir,
                    resolve=arguments.resolve,
                )
            )
            return

        store_origins(arguments.overrides)
        # A mistake is told before there is a folder, and before a sweep's first job.
        with deferred(*STOPPING) as signals, signals.allowed():
            start = choose_start(arguments, is_alone=world is None or world.size == 1)

        def train(cfg: DictConfig) -> float | None:
            try:
                return run_job(cfg, swept_keys=start.swept_keys)
            except RunFailed as error:  # recorded; a sweep goes on with its other jobs
                log_failure(f"{describe_job()}{error}")
                if start.is_sweep and HydraConfig.get().launcher["_target_"] == LAUNCHER:
                    raise  # it hears of it from a process that only this job has
                failures.append(str(error))
                return None

        # Lets failures through to the reports below instead of printing and exiting itself.
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")
        with deferred(*STOPPING) as signals, signals.allowed(), start.around:
            start.call(train)
        if failures and not start.is_sweep:
            raise ValueError("\n".join(failures))
    except HydraException as error:
        # Where a config was only to be printed: Hydra's message ends with its first problem.
        problems = checking.explain_overrides(arguments.overrides, arguments.config_dir)
        problems = hide_typed(problems, arguments.overrides)
        sys.stderr.write(f"glm-train: {problems or error}\n")
        sys.exit(MISTAKE)
    except OSError as error:  # a run's own are recorded: this is Hydra making its folder
        sys.stderr.write(f"glm-train: {error}; type hydra.run.dir=FOLDER for one to write to\n")
        sys.exit(MISTAKE)
    except (ValueError, RuntimeError, RunFailed) as error:
        sys.stderr.write(f"glm-train: {hide_typed(str(error), arguments.overrides)}\n")
        sys.exit(MISTAKE)
    except KeyboardInterrupt as error:
        sys.stderr.write("glm-train: interrupted\n")
        sys.exit(128 + signal_of(error))
    finally:
        if world is not None and world.size > 1:
            dismiss_followers()


if __name__ == "__main__":
    main()
