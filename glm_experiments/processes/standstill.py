"""Notices processes that are stopped (SIGSTOP), for which all others wait in vain.

One that is slow, sleeps or is looked at by a debugger is none.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Mapping

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
MOST_LOOKS = 60
"""So many in a row find a process stopped before it ends the run. Looks, not seconds: where all
processes were suspended, none passed."""


class Standstill:
    """How often in a row each child of this process was found stopped."""

    def __init__(self) -> None:
        self.looks: Counter[int] = Counter()
        self.last_look = time.monotonic()

    def look(self, ranks: Mapping[int, int]) -> str | None:
        """Look at the children of these process ids, now and then; warns of one that is stopped.

        ranks: of the processes by their ids.

        Returns:
            Why to end the run, where one was stopped for long.
        """
        if time.monotonic() - self.last_look < LOOK_SECONDS:
            return None
        self.last_look = time.monotonic()
        for process, rank in ranks.items():
            if not is_stopped(process):
                del self.looks[process]
                continue
            self.looks[process] += 1
            name = f"the process of rank {rank} ({process})"
            if self.looks[process] == 1:
                log.warning(
                    "%s is stopped, and all others wait for it; to let it go on type: kill -CONT "
                    "%d",
                    name,
                    process,
                )
            if self.looks[process] >= MOST_LOOKS:
                seconds = LOOK_SECONDS * MOST_LOOKS
                return f"{name} stood still for {seconds:.0f} s (SIGSTOP), so all others were ended"
        return None


def is_stopped(process: int) -> bool:
    """Whether a child of this process was stopped by a signal and not continued."""
    try:
        state = os.waitid(os.P_PID, process, os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # it has ended
        return False
    return state is not None
