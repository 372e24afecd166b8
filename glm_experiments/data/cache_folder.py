"""The user's folder of token tables: where it lies, what it keeps, what it throws away.

It saves time and nothing else: whatever is wrong with it costs a warning, never the run. Knows
neither text nor tokenizer.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError

from glm_experiments.data.token_cache import PARTIAL, TokenTable, read_tables, write_tables

log = logging.getLogger(__name__)

MOST_BYTES = 5 << 30
"""So much is kept; what was not used for longest goes first."""
LOCK_SECONDS = 900.0
"""So long another process may take to encode the same before this one does it, too."""
LEFTOVER_SECONDS = 24 * 3600.0
"""So old, what a killed process left is nobody's."""

Tables = dict[str, TokenTable]


def user_cache() -> Path:
    """The folder in which programs of this user keep what can be made again.

    Raises:
        RuntimeError: the user has no home.
    """
    # A relative one is to be ignored: freedesktop.org, XDG Base Directory Specification 0.8.
    if Path(given := os.environ.get("XDG_CACHE_HOME", "")).is_absolute():
        return Path(given)
    if sys.platform == "win32" and "LOCALAPPDATA" in os.environ:
        return Path(os.environ["LOCALAPPDATA"])
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")


def cached_tables(key: str, encode: Callable[[], Tables], *, cache_dir: str | None) -> Tables:
    """The tables that `key` names, from the cache, or as `encode` makes them.

    key: is another one for whatever else decides the tables.
    cache_dir: the cache's folder; None: in the user's own.
    """
    with ExitStack() as stack:
        file: Path | None = None
        problem: Exception | None = None
        try:
            folder = user_cache() / "glm_experiments" if cache_dir is None else Path(cache_dir)
            file = folder.expanduser() / f"{key}.safetensors"
            file.parent.mkdir(parents=True, exist_ok=True)
            # Of several processes, the first one encodes and the others read what it wrote.
            stack.enter_context(FileLock(f"{file}.lock", timeout=LOCK_SECONDS))
        except (OSError, RuntimeError) as error:
            problem = error
        if file is not None and (tables := read_tables(file)) is not None:
            log.info("the token ids are taken from %s", file)
            with suppress(OSError):
                os.utime(file)
            return tables
        start = time.monotonic()
        tables = encode()
        seconds = time.monotonic() - start
        if problem is None:
            assert file is not None
            problem = keep(file, tables)
    if problem is None:
        log.info("encoded in %.1f s, kept in %s", seconds, file)
    else:
        place = "the user's cache folder" if file is None else file.parent
        log.warning(
            "encoded in %.1f s, but token ids can't be kept in %s (%s), so the next run encodes "
            "them again; make room there and let it be written to, or type data.cache_dir=FOLDER",
            seconds,
            place,
            problem,
        )
    return tables


def keep(file: Path, tables: Mapping[str, TokenTable]) -> Exception | None:
    """Write tables and make room for them; returns what keeps them from being written."""
    try:
        write_tables(file, tables)
    except (OSError, SafetensorError) as error:  # the latter of a full disk
        return error
    make_room(file.parent)
    return None


def make_room(folder: Path) -> None:
    """Delete what was not used for longest until `MOST_BYTES` are left, and what killed processes
    left. Another process may be at it, too."""
    kept = {}
    for path in folder.iterdir():
        with suppress(OSError):  # gone, or another user's
            state = path.stat()
            if path.suffix == ".safetensors":
                kept[path] = state
            elif PARTIAL.fullmatch(path.name) and time.time() - state.st_mtime > LEFTOVER_SECONDS:
                path.unlink()
    num_bytes = sum(state.st_size for state in kept.values())
    for path, state in sorted(kept.items(), key=lambda each: each[1].st_mtime_ns):
        if num_bytes <= MOST_BYTES:
            return
        num_bytes -= state.st_size
        for each in (path, path.with_name(f"{path.name}.lock")):
            with suppress(OSError):
                each.unlink()
