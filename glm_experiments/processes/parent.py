"""A process that doesn't outlive the one that started it, whatever ends that. On Linux; elsewhere
nothing is done about it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

# From linux/prctl.h.
PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Let the system kill this process when its parent ends; at once where it has.

    parent: the process that started this one. It must have done so in its main thread.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before that was asked for
        os.kill(os.getpid(), signal.SIGKILL)
