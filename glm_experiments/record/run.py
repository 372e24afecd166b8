"""The run record: how a run ended, with which config, what came out, on which machine.

Knows nothing of what a run does. A failed, refused or interrupted one is recorded, too.
"""

from __future__ import annotations

import gc
import logging
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from glm_experiments.record.environment import capture_environment, read_git_state
from glm_experiments.record.errors import Refused, RunFailed, clear_frames, status_of
from glm_experiments.record.files import LOCK, RESULTS, has_trained
from glm_experiments.record.masking import Secrets, find_secrets, mask_override, mask_secrets
from glm_experiments.record.signals import STOPPING, deferred, signal_of
from glm_experiments.record.versions import KEY, VERSION
from glm_experiments.record.writing import (
    FULL_DISK,
    remove_half_written,
    write_json,
    write_text,
)

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Run:
    """What the stages of a run fill, as it stands in the record; both may nest."""

    outcome: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)


@contextmanager
def record_run(
    output_dir: Path,
    *,
    name: str,
    config: dict[str, Any],
    overrides: Sequence[str],
    file_name: str = RESULTS,
) -> Iterator[Run]:
    """Write `results.json` into `output_dir` however the block ends, short of a killed process.

    While the run goes on there is none: a folder without one is a run that was killed or still
    runs. Build the model in a function that the block calls: the frame of the block itself can't be
    cleared, and would keep it alive for the rest of a sweep.

    Raises:
        RunFailed: where the block raised; the error itself is recorded. And where another process
            is at work in the folder, whose record is left alone.
        Interrupted: where a signal ended the block, or came while the record was written.
    """
    gc.collect()  # what an earlier run of this process left in reference cycles
    output_dir.mkdir(parents=True, exist_ok=True)
    with lock_folder(output_dir), deferred(*STOPPING) as signals:
        remove_half_written(output_dir)
        record = Record(output_dir / file_name, name=name, config=config, overrides=overrides)
        try:
            with signals.allowed():
                yield record.run
            record.write("finished")
        except KeyboardInterrupt as error:
            record.write(status_of(error), describe(error, signal_of(error).name))
            raise
        except Refused as error:
            if not record.put_back():
                record.write(status_of(error), describe(error, str(error)))
            raise RunFailed(str(error)) from None
        except (Exception, SystemExit) as error:
            message = record.write_failure(error)
            clear_frames(error)
            raise RunFailed(message) from None


class Record:
    """The file of one run's record, from the run's first moment on."""

    def __init__(
        self, file: Path, *, name: str, config: dict[str, Any], overrides: Sequence[str]
    ) -> None:
        self.file = file
        self.run = Run()
        self._name = name
        self._config = config
        self._overrides = overrides
        self._secrets = Secrets(find_secrets(config))
        self._former = file.read_bytes() if file.exists() else None
        file.unlink(missing_ok=True)
        self._git = read_git_state()
        self._start, self._clock = datetime.now().astimezone(), time.perf_counter()

    def write(self, status: str, error: dict[str, str] | None = None) -> None:
        """Write it as things stand. Where that fails, the run's own error comes first."""
        about: dict[str, Any] = {
            "name": self._name,
            "status": status,
            "error": error,
            "start": self._start.isoformat(timespec="seconds"),
            "duration_seconds": round(time.perf_counter() - self._clock, 3),
            "git": self._git,
            "overrides": [mask_override(override) for override in self._overrides],
        }
        sections = {
            KEY: VERSION,
            "run": self._secrets.hide_all(about),
            "config": self._secrets.hide_all(mask_secrets(self._config)),
            "outcome": self.run.outcome,
            "environment": {**capture_environment(), **self.run.environment},
        }
        try:
            write_json(self.file, sections)
        except (OSError, RuntimeError) as problem:
            if error is None:
                raise
            log.error("the record is missing: %s", problem)

    def write_failure(self, error: BaseException) -> str:
        """Record an error; returns the message for the user. A traceback is shown of bugs only."""
        status = status_of(error)
        trace = "".join(traceback.format_exception(error))
        message = str(error) or type(error).__name__
        is_full = FULL_DISK.search(message) is not None
        is_expected = is_full or isinstance(error, ValueError | RuntimeError | OSError)
        log.log(logging.DEBUG if is_expected else logging.ERROR, "%s", trace.rstrip())
        self.write(status, {**describe(error, message), "traceback": trace})
        hint = f"; free some space where {self.file.parent} is" if is_full else ""
        return f"{self._secrets.hide(message)}{hint} [{status}, see {self.file}]"

    def put_back(self) -> bool:
        """Leave the folder's record as it was before; False where there was nothing to be told."""
        if self._former is None:
            return has_trained(self.file.parent)  # killed, and to be continued
        write_text(self.file, self._former.decode())
        return True


def describe(error: BaseException, message: str) -> dict[str, str]:
    """An error as it stands in the record."""
    return {"type": type(error).__name__, "message": message}


def lock_folder(folder: Path) -> AbstractContextManager[object]:
    """Inside, keep other runs out of `folder`: two that began in one second would share its name.

    Who holds it may take it again.

    Raises:
        RunFailed: where another process is at work in it.
    """
    from filelock import FileLock, Timeout  # takes a while, and help needs none

    try:
        return FileLock(folder / LOCK, is_singleton=True).acquire(blocking=False)
    except Timeout:
        raise RunFailed(
            f"another process is at work in {folder}; wait for it, or type hydra.run.dir=FOLDER "
            "for a folder of this run's own"
        ) from None
