"""Workers of a run that are forked from one process that has imported torch: a second or two each.

How they are started as users' are, each anew, is for the tests of processes and for slow ones.
"""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any

PRELOADED = ("peft", "transformers.trainer", "datasets", "glm_experiments.experiment")


class ForkedWorkers:
    """In place of multiprocessing, for whoever starts workers. said: what they print."""

    def __init__(self, said: Path) -> None:
        self.said = said
        said.touch()
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(list(PRELOADED))
        self.Pipe = self.context.Pipe

    def get_context(self, _: str) -> ForkedWorkers:
        """Itself, whatever was asked for."""
        return self

    def Process(  # noqa: N802
        self, *, target: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """A process that isn't started yet."""
        args = (self.said, target, *args)
        return self.context.Process(target=speak_into, name=name, args=args, kwargs=kwargs)

    def read(self) -> str:
        """What the workers have printed."""
        return self.said.read_text(encoding="utf-8")


def speak_into(said: Path, target: Any, *args: Any, **kwargs: Any) -> None:
    """Be a worker whose standard output is a file, not that of whoever started the first one."""
    with said.open("ab") as stream:
        for descriptor in (1, 2):
            os.dup2(stream.fileno(), descriptor)
    # Who asked for it is not who forked it: such a worker can't be told to die with its parent.
    multiprocessing.process._parent_process = None  # type: ignore[attr-defined]
    target(*args, **kwargs)
