"""This process among the processes of a run, as its environment describes it. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """This process among the processes of a run."""

    rank: int
    size: int
    local_rank: int


def read_world(environment: Mapping[str, str]) -> World | None:
    """The world that torchrun or our own workers' parent describes; None: the only process."""
    if "RANK" not in environment or "WORLD_SIZE" not in environment:
        return None
    return World(
        rank=int(environment["RANK"]),
        size=int(environment["WORLD_SIZE"]),
        local_rank=int(environment.get("LOCAL_RANK", environment["RANK"])),
    )
