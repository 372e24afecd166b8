"""What the commands on a run's folder have in common: RUN_DIR, --checkpoint, overrides, exits."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from glm_experiments import runs
from glm_experiments.config import Config
from glm_experiments.record.errors import RunFailed
from glm_experiments.record.signals import STOPPING, handled, interrupt, signal_of
from glm_experiments.streams import open_closed_streams

Prepared = TypeVar("Prepared")


def build_parser(
    name: str,
    description: str,
    *,
    subject: str = "folder of a run",
    num_subjects: str | None = None,
) -> argparse.ArgumentParser:
    """A parser of a command on a run's folder.

    subject: what RUN_DIR may be. num_subjects: how many of it, as argparse says it.
    """
    parser = argparse.ArgumentParser(
        prog=name, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", type=Path, nargs=num_subjects, help=subject)
    parser.add_argument(
        "--checkpoint",
        default="last",
        metavar="best|last|N",
        help="which state of the run: the best validation loss, the end (default), or step N",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],  # without one, argparse says that an override is required, too
        metavar="OVERRIDE",
        help="group=option or key=value, as glm-train",
    )
    return parser


def read_config(arguments: argparse.Namespace) -> Config:
    """The config of the run that a command is about, with its overrides."""
    return runs.read_config(arguments.run_dir, arguments.overrides)


def run_command(
    parser: argparse.ArgumentParser,
    act: Callable[[argparse.Namespace, Prepared], None],
    *,
    prepare: Callable[[argparse.Namespace], Prepared],
) -> None:
    """Parse, prepare, act; a mistake of the user ends with exit code 1 and a message."""
    open_closed_streams()
    arguments = parser.parse_intermixed_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        with handled(interrupt, *STOPPING):
            act(arguments, prepare(arguments))
    except (RunFailed, ValueError, RuntimeError, OSError) as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        sys.exit(1)
    except KeyboardInterrupt as error:
        sys.stderr.write(f"{parser.prog}: interrupted\n")
        sys.exit(128 + signal_of(error))
