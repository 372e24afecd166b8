"""The run record: how a run ended, with which config, what came out, on which machine.

Knows nothing of the rest of the package, and imports no torch: what it records of torch it reads
where a run has imported it.
"""

from __future__ import annotations

import errno
import gc
import json
import logging
import math
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from filelock import BaseFileLock

log = logging.getLogger(__name__)

PACKAGE_DIR = Path(__file__).resolve().parent
RESULTS = "results.json"
RECORDED_PACKAGES = (
    PACKAGE_DIR.name,
    *("torch", "transformers", "peft", "accelerate", "tokenizers", "sentencepiece", "datasets"),
    *("safetensors", "numpy", "hydra-core", "omegaconf", "wandb"),
)
# num_virtual_tokens and pad_token_id are no secrets, hub_token is one.
SECRET = r"(?:^|[^a-z])(?:token|secret|password|passwd|api_?key)"
SECRET_KEY = re.compile(SECRET + "$", re.IGNORECASE)
# What safetensors and torch say of a full disk, neither as an OSError.
FULL_DISK = re.compile(r"No space left on device|Disk quota exceeded|fail at inline_container")
SECRET_ENTRY = re.compile(rf"({SECRET}['\"]?\s*:)[^,}}]+", re.IGNORECASE)


class Diverged(RuntimeError):  # noqa: N818
    """The loss or the trained parameters are no longer finite."""


class Interrupted(KeyboardInterrupt):
    """A signal ended the run; `args[0]` is its number."""


class Refused(ValueError):  # noqa: N818
    """What is asked would make another run of a folder that holds one: its record stays."""


class RunFailed(Exception):  # noqa: N818
    """The run's failure is recorded; the message is for the user."""


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
        KeyboardInterrupt: where SIGINT or SIGTERM ended the block, as `Interrupted` for SIGTERM.
    """
    gc.collect()  # what an earlier run of this process left in reference cycles
    output_dir.mkdir(parents=True, exist_ok=True)
    lock = lock_folder(output_dir)
    file = output_dir / file_name
    former = file.read_bytes() if file.exists() else None
    file.unlink(missing_ok=True)
    run = Run()
    git = read_git_state()
    start, clock = datetime.now().astimezone(), time.perf_counter()

    def record(status: str, error: dict[str, str] | None) -> None:
        about = {
            "name": name,
            "status": status,
            "error": error,
            "start": start.isoformat(timespec="seconds"),
            "duration_seconds": round(time.perf_counter() - clock, 3),
            "git": git,
            "overrides": [mask_override(override) for override in overrides],
        }
        environment = {**capture_environment(), **run.environment}
        outcome = run.outcome
        sections = {"run": about, "config": mask_secrets(config), "outcome": outcome}
        try:
            write_json(file, {**sections, "environment": environment})
        except (OSError, RuntimeError) as problem:
            if error is None:
                raise
            log.error("the record is missing: %s", problem)  # the run's own error comes first

    try:
        with sigterm_interrupts():
            yield run
        record("finished", None)
    except KeyboardInterrupt as error:
        signum = error.args[0] if error.args else signal.SIGINT
        reason = {"type": type(error).__name__, "message": signal.Signals(signum).name}
        record("interrupted", reason)
        raise
    except Refused as error:
        if former is None:
            record(status_of(error), {"type": type(error).__name__, "message": str(error)})
        else:
            write_text(file, former.decode())
        raise RunFailed(str(error)) from None
    except (Exception, SystemExit) as error:
        status = status_of(error)
        trace = "".join(traceback.format_exception(error))
        message = str(error) or type(error).__name__
        is_full = FULL_DISK.search(message) is not None
        expected = is_full or isinstance(error, ValueError | RuntimeError | OSError)
        log.log(logging.DEBUG if expected else logging.ERROR, "%s", trace.rstrip())
        reason = {"type": type(error).__name__, "message": message, "traceback": trace}
        if is_full:
            message += f"; free some space where {output_dir} is"
        record(status, reason)
        clear_frames(error)
        raise RunFailed(f"{message} [{status}, see {file}]") from None
    finally:
        lock.release()


def lock_folder(folder: Path) -> BaseFileLock:
    """Keep other runs out of `folder`: two that began in one second would share its name.

    Raises:
        RunFailed: where another process is at work in it.
    """
    from filelock import FileLock, Timeout  # takes a while, and help needs none

    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise RunFailed(
            f"another process is at work in {folder}; wait for it, or type hydra.run.dir=FOLDER "
            "for a folder of this run's own"
        ) from None
    return lock


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


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Inside, SIGTERM raises `Interrupted`, as SIGINT raises KeyboardInterrupt."""

    def interrupt(signum: int, _frame: FrameType | None) -> NoReturn:
        raise Interrupted(signum)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def read_git_state() -> dict[str, Any] | None:
    """Commit and dirty flag of the checkout that this package runs from; None outside of one."""
    top = PACKAGE_DIR.parent
    # A hook's GIT_DIR would mean its own repository.
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}

    def git(*arguments: str) -> str:
        command = ["git", "--no-optional-locks", "-C", str(top), *arguments]
        return subprocess.run(
            command, env=env, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != top:
            return None  # a virtual environment inside someone else's repository
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def capture_environment() -> dict[str, Any]:
    """Versions and devices; no values of environment variables, for they may be secrets."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    host = {"platform": platform.platform(), "num_cpus": os.cpu_count()}
    return {"versions": versions, "host": host, "devices": describe_devices()}


def describe_devices() -> list[dict[str, Any]]:
    """Name and memory of each visible GPU; empty where torch was not imported or sees none."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    try:
        found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    except RuntimeError as error:  # the driver itself may be what ended the run
        return [{"name": None, "error": str(error)}]
    return [{"name": each.name, "memory_bytes": each.total_memory} for each in found]


def mask_override(override: str) -> str:
    """`key=value` with what is hidden whose key speaks of a secret, also in `key={a: b}`."""
    key, equals, _ = override.partition("=")
    if equals and SECRET_KEY.search(key):
        return f"{key}=***"
    return SECRET_ENTRY.sub(r"\1 ***", override)


def mask_secrets(config: Any) -> Any:
    """A nested config with the values hidden whose keys speak of a secret."""
    if isinstance(config, Mapping):
        return {
            key: "***" if value is not None and SECRET_KEY.search(str(key)) else mask_secrets(value)
            for key, value in config.items()
        }
    return [mask_secrets(each) for each in config] if isinstance(config, list) else config


def encode_json(value: Any, *, indent: int | None = None) -> str:
    """JSON of plain values, paths and scalars of array libraries; NaN and infinities as null."""
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, indent=indent)


def _plain(value: Any) -> Any:
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(key): _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case _ if hasattr(value, "item"):
            return _plain(value.item())
        case _:
            return str(value)


def write_json(file: Path, value: Any) -> None:
    """Replace `file` atomically by the indented JSON of `value`."""
    write_text(file, encode_json(value, indent=2) + "\n")


def write_text(file: Path, text: str) -> None:
    """Replace `file` atomically: a reader sees the old text or the whole new one.

    Raises:
        RuntimeError: the disk is full; the old text stays.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with explain_full_disk(file), temporary.open("wb") as stream:
            # Lone surrogates (of a broken file name) become their JSON escapes.
            stream.write(text.encode(errors="backslashreplace"))
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def explain_full_disk(file: Path) -> Iterator[None]:
    """Say which file met a full disk or quota, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RuntimeError(
            f"no space is left to write {file}; free some, or type hydra.run.dir=FOLDER for one "
            "on another disk"
        ) from error


class MetricsLog:
    """`metrics.jsonl`: one line a logged step, on disk before `log` returns.

    A resumed run appends: of two lines for one step and key the later counts.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        if file.exists():  # a killed run may have left half a line
            content = file.read_bytes()
            os.truncate(file, content.rfind(b"\n") + 1)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append `values` of a step.

        Raises:
            RuntimeError: the disk is full.
        """
        line = encode_json({"step": step, **values}) + "\n"
        with explain_full_disk(self.file), self.file.open("ab") as stream:
            stream.write(line.encode(errors="backslashreplace"))
