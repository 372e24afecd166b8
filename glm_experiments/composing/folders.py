"""Names that stay the same from command to command: of a sweep's folder, and of a job's within it.

A job is named by what was typed of its swept keys; knows nothing of what lies in a folder.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from omegaconf import DictConfig, OmegaConf

LONGEST = 100
"""Letters of a job's name before its hash."""


def name_job(overrides: Iterable[str], *, fixed: Iterable[str]) -> str:
    """The folder of a job: its swept overrides, readable, and a hash of them.

    overrides: all of the job's. fixed: keys that are the same in every job.
    """
    fixed = set(fixed)
    swept = [each for each in overrides if key_of(each) not in fixed]
    digest = hashlib.sha256("\0".join(sorted(swept)).encode()).hexdigest()[:8]
    parts = [f"{key_of(each).rpartition('.')[2]}_{each.partition('=')[2]}" for each in swept]
    # Only letters that Hydra takes unquoted: the folder will be typed.
    readable = re.sub(r"[^A-Za-z0-9_.+]+", "-", "-".join(parts)).strip("-.")[:LONGEST].rstrip("-.")
    return f"{readable or 'job'}-{digest}"


def name_sweep(name: str, sweep: str | None) -> str:
    """The folder of a sweep: of the runs' name, and of the named grid where one is chosen."""
    return name if sweep is None else f"{name}-{sweep}"


def key_of(override: str) -> str:
    """The key of an override, or its group."""
    return override.lstrip("+~").partition("=")[0]


def register_resolvers() -> None:
    """Let `conf/` name folders so: `${job_folder:}` and `${sweep_name:NAME,SWEEP}`."""

    def job_folder(*, _root_: DictConfig) -> str:
        fixed = _root_.hydra.job.config.override_dirname.exclude_keys
        return name_job(_root_.hydra.overrides.task, fixed=fixed)

    OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)
    OmegaConf.register_new_resolver("sweep_name", name_sweep, replace=True)
