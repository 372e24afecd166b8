"""How a run may end other than well: the exceptions that say so, and the record's word for each."""

from __future__ import annotations

import re
import traceback


class Diverged(RuntimeError):  # noqa: N818
    """The loss or the trained parameters are no longer finite."""


class Interrupted(KeyboardInterrupt):
    """A signal ended the run; `args[0]` is its number."""


class Refused(ValueError):  # noqa: N818
    """What is asked would make another run of a folder that holds one: its record stays."""


class RunFailed(Exception):  # noqa: N818
    """The run's failure is recorded; the message is for the user."""


def status_of(error: BaseException | None) -> str:
    """The record's word for how a run ended: by an exception, or by itself."""
    if error is None:
        return "finished"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, Diverged):
        return "diverged"
    names = {kind.__name__ for kind in type(error).__mro__}
    # A device's driver and the CPU's allocator report theirs as plain RuntimeErrors.
    says_so = isinstance(error, RuntimeError) and re.search(
        r"out of memory|not enough memory|can't allocate memory|ALLOC_FAILED", str(error)
    )
    if says_so or names & {"OutOfMemoryError", "MemoryError"}:
        return "out_of_memory"
    return "failed"


def clear_frames(error: BaseException | None) -> None:
    """Let go of what the frames of an error and its causes hold: a model's memory, above all."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
