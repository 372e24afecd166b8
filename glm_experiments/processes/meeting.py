"""What the processes of a run tell each other; alone, a process talks to itself.

Joins the world that the environment describes. Everything here is a meeting: all processes must
come, in the same order.
"""

from __future__ import annotations

import functools
import itertools
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from glm_experiments.processes.world import World

Value = TypeVar("Value")
# Loading and encoding differ in length between processes; a dead one is noticed otherwise.
TIMEOUT = timedelta(hours=2)
OVER = "over"


def join_world(world: World, *, device: str) -> None:
    """Meet the other processes, for the first time or again."""
    if dist.is_initialized():
        return
    backend = "gloo"
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"  # what is decided on the CPU must not wait for a GPU
    dist.init_process_group(
        backend,
        store=PrefixStore("group", open_store()),
        rank=world.rank,
        world_size=world.size,
        timeout=TIMEOUT,
    )


@functools.cache
def open_store() -> Store:
    """The store whose address is in the environment."""
    store: Store = next(rendezvous("env://", timeout=TIMEOUT))[0]
    return store


def hand_out(job: Any) -> None:
    """Let the other processes work on `job`, too."""
    store = open_store()
    number = store.add("num_jobs", 1)
    store.set(f"job{number}", pickle.dumps(job))  # type: ignore[arg-type]


def dismiss() -> None:
    """Let the other processes know that there is no more to do."""
    open_store().set(OVER, "")
    hand_out(None)


def are_dismissed() -> bool:
    """Whether the main process has ended its work, well or badly."""
    return bool(open_store().check([OVER]))


def handed_out() -> Iterator[Any]:
    """The jobs that the main process hands out, in a process that only follows."""
    for number in itertools.count(1):
        job = pickle.loads(open_store().get(f"job{number}"))
        if job is None:
            return
        yield job


def num_processes() -> int:
    """Of the run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Of this process."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this process writes and speaks."""
    return rank() == 0


def from_main(make: Callable[[], Value]) -> Value:
    """What `make` returns in the main process, in all of them."""
    if num_processes() == 1:
        return make()
    value = [make() if is_main() else None]
    dist.broadcast_object_list(value, src=0)
    return value[0]  # type: ignore[return-value]


@contextmanager
def main_first() -> Iterator[None]:
    """The block runs in the main process, then in the others."""
    if not is_main():
        from_main(lambda: None)
    yield
    if is_main():
        from_main(lambda: None)


def gather(value: Value) -> list[Value]:
    """The `value` of every process, by rank."""
    if num_processes() == 1:
        return [value]
    values: list[Any] = [None] * num_processes()
    dist.all_gather_object(values, value)
    return values


def add_up(value: int) -> int:
    """The sum of the processes' values, through the CPU: no device is waited for."""
    return _reduce(value, dist.ReduceOp.SUM)


def largest(value: int) -> int:
    """The largest of the processes' values, through the CPU."""
    return _reduce(value, dist.ReduceOp.MAX)


def _reduce(value: int, operation: Any) -> int:
    if num_processes() == 1:
        return value
    reduced = torch.tensor(value, dtype=torch.int64)
    dist.all_reduce(reduced, op=operation)
    return int(reduced)
