"""glm-train: composes a config, checks it, runs the job or the sweep.

Nothing here imports torch, so help, printing a config and a config's mistakes answer at once.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from glm_experiments import composition, config

log = logging.getLogger(__name__)

MISTAKE = 1


class JobFailed(Exception):  # noqa: N818  (a state of a job, not an error class of a library)
    """Carries a failed job's message, and nothing that would keep its model alive."""


@hydra.main(version_base="1.3", config_path=str(composition.CONF_DIR), config_name="train")
def run_job(cfg: DictConfig) -> float | None:
    """Run one job; Hydra calls it once a job and keeps what it returns or raises."""
    from glm_experiments import experiment

    context = HydraConfig.get()
    overrides = list(context.overrides.task)
    swept = swept_keys(context.overrides.hydra) if context.mode is RunMode.MULTIRUN else None
    message = ""
    try:
        return experiment.run(
            config.parse(cfg),
            Path(context.runtime.output_dir),
            overrides=overrides,
            sweep=None if swept is None else Path(context.sweep.dir).name,
        )
    except Exception as error:
        # The record has been written. A kept exception keeps the frames and, through them, the
        # model and its device memory; later jobs of a sweep need that memory.
        log.debug("the job's failure", exc_info=True)
        message = describe_failure(error)
        traceback.clear_frames(error.__traceback__)
    raise JobFailed(f"{' '.join(overrides) or context.job.name}: {message}")


def main() -> None:
    """Console entry point; exits with 0, 1 (a message was printed), 130 or 143."""
    arguments = get_args_parser().parse_args()
    try:
        if not (arguments.help or arguments.hydra_help or arguments.info or arguments.cfg):
            composition.check_command_line(
                arguments.overrides, config_dir=arguments.config_dir, multirun=arguments.multirun
            )
        # Lets failures through to the reports below instead of printing and exiting itself.
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")
        run_job()
    except (JobFailed, ValueError, HydraException) as error:
        sys.stderr.write(f"glm-train: {error}\n")
        sys.exit(MISTAKE)
    except KeyboardInterrupt as error:
        signum = error.args[0] if error.args else signal.SIGINT
        sys.stderr.write("glm-train: interrupted\n")
        sys.exit(128 + int(signum))


if __name__ == "__main__":
    main()
