"""The standard streams of a process that was started without one of them."""

from __future__ import annotations

import os
import sys


def open_closed_streams() -> None:
    """Let streams that were closed (`>&-`, some schedulers) lead nowhere.

    Else the first file that is opened gets the number of one, and what libraries print lands in it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
