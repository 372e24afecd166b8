"""What another training has left in a run's folder is moved aside, whole and for good."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from pathlib import Path

from glm_experiments.record.files import FORMER

log = logging.getLogger(__name__)


def set_aside(run_dir: Path, paths: Sequence[Path]) -> None:
    """Move what lies in a run's folder into a new folder below `former`, and say so."""
    if not paths:
        return
    numbers = (run_dir / FORMER / str(number) for number in itertools.count(1))
    target = next(path for path in numbers if not path.exists())
    target.mkdir(parents=True)
    for path in paths:
        path.rename(target / path.name)
    reopen_logs(paths)
    log.info("what was in %s is now in %s: %s", run_dir, target, name_briefly(paths))


def reopen_logs(moved: Sequence[Path]) -> None:
    """Let loggers whose file was moved begin a new one under the old name."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler) and Path(handler.baseFilename) in moved:
            handler.close()  # the next line opens it again


def name_briefly(paths: Sequence[Path]) -> str:
    """The first names of some paths."""
    names = [path.name for path in paths]
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
