"""A process that has imported torch, and forks a child for each command: a second or two a run.

As a program it is that process, in which nothing is computed before a fork (a child of torch's
threads hangs). `Warm` starts it and asks it for children, each in a session of its own, with a
fault put in where a case wants one.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.running import freeze_libraries

FORGOTTEN_SECONDS = 120
"""No command of a test takes longer."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens in a child at the `nth` call of `place`, a dotted name, before the call.

    signum: it sends itself this signal. error: it raises torch's, of this name. waits_for: it
    writes this file with `.reached` behind its name, and waits for the file.
    """

    place: str
    nth: int = 1
    signum: int | None = None
    error: str | None = None
    waits_for: str | None = None

    def happen(self) -> None:
        """Let it happen."""
        if self.waits_for is not None:
            Path(f"{self.waits_for}.reached").touch()
            wait_until(Path(self.waits_for).exists)
        if self.signum is not None:
            os.kill(os.getpid(), self.signum)
        if self.error is not None:
            import torch

            raise getattr(torch, self.error)(f"{self.error} is simulated")


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a child ended. code: its exit code, or minus the signal that killed it."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, kw_only=True)
class Child:
    """A command that runs. said: file of its standard output, and beside it that of its errors."""

    warm: Warm
    pid: int
    said: Path

    def send(self, signum: int) -> None:
        """Send it a signal, as a terminal would."""
        os.killpg(self.pid, signum)

    def wait(self, *, times: int = 1) -> Ended:
        """Wait for its end. times: how often as long as for others."""
        waits = (self.warm.ask({"wait": self.pid}) for _ in range(times))
        code = next((code for code in waits if code is not None), None)
        if code is None:
            os.killpg(self.pid, signal.SIGKILL)
            raise TimeoutError(f"a command hangs; it said {self.said.read_text()[-2000:]}")
        out, err = (
            file.read_text(encoding="utf-8", errors="replace")
            for file in (self.said, self.said.with_suffix(".err"))
        )
        return Ended(code=code, out=out, err=err)


class Warm:
    """The process, while the block runs. scratch: a folder for what children say."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.num_children = 0

    def __enter__(self) -> Warm:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.warm"],
            cwd=Path(__file__).resolve().parents[1],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)

    def ask(self, request: dict[str, Any]) -> Any:
        """The answer to a request."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def start(
        self,
        *arguments: str | Path,
        main: str = "glm_experiments.train.main",
        fault: Fault | None = None,
        folder: Path | None = None,
        environment: dict[str, str] | None = None,
        closed: Sequence[int] = (),
        broken: Sequence[int] = (),
    ) -> Child:
        """Let a child call `main` with these arguments.

        folder: that it works in. closed: which of its standard streams it hasn't. broken: which
        are pipes that nobody reads.
        """
        self.num_children += 1
        said = self.scratch / f"{self.num_children}.out"
        request = {
            "main": main,
            "arguments": list(map(str, arguments)),
            "fault": None if fault is None else vars(fault),
            "folder": str(folder or self.scratch),
            "environment": environment or {},
            "closed": list(closed),
            "broken": list(broken),
            "said": str(said),
        }
        return Child(warm=self, pid=self.ask(request), said=said)

    def run(self, *arguments: str | Path, **settings: Any) -> Ended:
        """Start a child and wait for its end."""
        return self.start(*arguments, **settings).wait()

    def run_all(self, starts: Sequence[Callable[[], Child]], *, at_once: int = 2) -> list[Ended]:
        """Start so many children at once until all have ended; their ends in order."""
        children: list[Child] = []
        ended: list[Ended] = []
        for start in starts:
            if len(children) - len(ended) >= at_once:
                ended.append(children[len(ended)].wait())
            children.append(start())
        return ended + [child.wait() for child in children[len(ended) :]]


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for something of another process.

    Raises:
        TimeoutError: it doesn't come.
    """
    deadline = time.monotonic() + FORGOTTEN_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("nothing came of it")
        time.sleep(0.005)


# In the process


def find(name: str) -> tuple[Any, str]:
    """What a dotted name lies in, and its last part."""
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            home: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        return functools.reduce(getattr, parts[length:-1], home), parts[-1]
    raise ModuleNotFoundError(name)


def put_in(fault: Fault) -> None:
    """Let a fault happen where it says."""
    home, name = find(fault.place)
    call = getattr(home, name)
    num_calls = 0

    @functools.wraps(call)
    def faulty(*args: Any, **kwargs: Any) -> Any:
        nonlocal num_calls
        num_calls += 1
        if num_calls == fault.nth:
            fault.happen()
        return call(*args, **kwargs)

    setattr(home, name, faulty)


def close(descriptor: int) -> None:
    """Take a standard stream away, as Python has none where it starts without."""
    name = {1: "stdout", 2: "stderr"}[descriptor]
    setattr(sys, name, None)
    setattr(sys, f"__{name}__", None)
    os.close(descriptor)


def be_child(request: dict[str, Any]) -> None:
    """Become the command that is asked for; doesn't return."""
    code = 70
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        said = Path(request["said"])
        for descriptor, file in ((1, said), (2, said.with_suffix(".err"))):
            opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(opened, descriptor)
            os.close(opened)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for descriptor in request["broken"]:
            reader, writer = os.pipe()
            os.dup2(writer, descriptor)
            os.close(reader)
            os.close(writer)
        for descriptor in request["closed"]:
            close(descriptor)
        os.chdir(request["folder"])
        os.environ.update(request["environment"])
        if request["fault"] is not None:
            put_in(Fault(**request["fault"]))
        sys.argv = ["glm", *request["arguments"]]
        home, name = find(request["main"])
        getattr(home, name)()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, AttributeError):
                stream.flush()
        os._exit(code)


def wait_for(pid: int) -> int | None:
    """The exit code of a child; None: it doesn't end."""
    deadline = time.monotonic() + FORGOTTEN_SECONDS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return None


def serve() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries greet on standard output
    shared = importlib.import_module("tests.conftest")
    socket.socket.connect = shared.connect_to_loopback  # type: ignore[method-assign]
    import torch

    torch.set_num_threads(1)
    for module in ("peft", "transformers", "transformers.trainer", "datasets"):
        importlib.import_module(module)
    for module in ("experiment", "train", "commands.evaluate", "commands.export"):
        importlib.import_module(f"glm_experiments.{module}")
    freeze_libraries()
    while line := sys.stdin.readline():
        request = json.loads(line)
        if "wait" in request:
            answer = wait_for(request["wait"])
        elif (answer := os.fork()) == 0:
            be_child(request)
        print(json.dumps(answer), file=answers, flush=True)
    os._exit(0)  # taking the libraries down takes long, and leads to nothing


if __name__ == "__main__":
    serve()
