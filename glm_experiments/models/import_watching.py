"""Calls functions once certain modules have been imported, by whomever, and imports none itself.

It finds and loads nothing: finders behind it in `sys.meta_path` are asked as ever, and the loader
that they give does its work. It leaves when all is called. Knows no library.
"""

import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def call_after_imports(calls: Mapping[str, Callable[[], None]], *, packages: Sequence[str]) -> None:
    """Call what belongs to a module, now if it is imported already, else after its import.

    Not at the end of its own: other modules import it half-way, when nothing that uses those can
    be imported. Called at the end of the outermost import of a module inside `packages`.
    """
    watcher = ImportWatcher(calls, packages=packages)
    sys.meta_path.insert(0, watcher)
    watcher.call_for_imported()


class ImportWatcher(MetaPathFinder):
    """Sees the outermost import of a package's modules come, and is told of its end."""

    def __init__(self, calls: Mapping[str, Callable[[], None]], *, packages: Sequence[str]) -> None:
        self.pending = dict(calls)
        self.prefixes = tuple(f"{package}." for package in packages)
        self.busy_threads: set[int] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the finders behind this one find, its loader wrapped; of an inner import nothing."""
        is_outermost = (
            fullname.startswith(self.prefixes)
            and threading.get_ident() not in self.busy_threads
            and not self.is_half_way()
        )
        if not is_outermost:
            return None
        # A finder may itself ask all others, and so come here again.
        with self.busy():
            spec = self.ask_others(fullname, path, target)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = WatchedLoader(spec.loader, self)
        return spec

    def ask_others(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        """The finders before this one have been asked already."""
        finders = list(sys.meta_path)
        behind = finders[finders.index(self) + 1 :] if self in finders else []
        found = (
            finder.find_spec(fullname, path, target)
            for finder in behind
            if hasattr(finder, "find_spec")
        )
        return next((spec for spec in found if spec is not None), None)

    def is_half_way(self) -> bool:
        """Whether a module of the packages is being imported by this thread."""
        return any(
            frame.f_code.co_name == "<module>"
            and str(frame.f_globals.get("__name__")).startswith(self.prefixes)
            for frame, _ in traceback.walk_stack(None)
        )

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Stay out of what this thread imports meanwhile."""
        self.busy_threads.add(threading.get_ident())
        try:
            yield
        finally:
            self.busy_threads.discard(threading.get_ident())

    def call_for_imported(self) -> None:
        """Call what can be, unless something is half-way; leave when all is done."""
        if self.is_half_way():
            return
        with self.busy():
            # What is called may import the next module, and another thread may come here.
            while ready := [name for name in list(self.pending) if name in sys.modules]:
                call = self.pending.pop(ready[0], None)
                if call is not None:
                    call()
        if not self.pending and self in sys.meta_path:
            sys.meta_path.remove(self)


class WatchedLoader(Loader):
    """Another loader, as it is, whose end is told to the watcher. The module never sees this one.

    A wrapper, because a loader may be one for many modules (that of a zip file is).
    """

    def __init__(self, loader: Any, watcher: ImportWatcher) -> None:
        self.loader = loader
        self.watcher = watcher

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the other loader."""
        created: ModuleType | None = self.loader.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        """As the other loader, which the module and its spec are given back first."""
        spec = module.__spec__
        if spec is not None and spec.loader is self:
            spec.loader = self.loader
        if module.__loader__ is self:
            module.__loader__ = self.loader
        if threading.get_ident() in self.watcher.busy_threads:
            self.loader.exec_module(module)
            return
        with self.watcher.busy():
            self.loader.exec_module(module)
        self.watcher.call_for_imported()
