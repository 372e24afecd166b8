"""What is called after an import is called at the end of the outermost, and stays out of the way
of whoever else finds modules."""

import importlib
import importlib.util
import sys
import zipfile
import zipimport
from importlib.machinery import PathFinder

import pytest

from glm_experiments.models.import_watching import ImportWatcher, call_after_imports

FILES = {
    "watched/__init__.py": "",
    "watched/outer.py": "import watched.inner\nDONE = True\n",
    "watched/inner.py": "",
    "watched/broken.py": "import watched.inner\nraise KeyError('broken')\n",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """On the path, with a package `watched`; what is imported of it is forgotten afterwards."""
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "watched"]:
        del sys.modules[name]


def watch(call, *, name="watched.inner"):
    call_after_imports({name: call}, packages=("watched",))


def is_watching():
    return any(isinstance(finder, ImportWatcher) for finder in sys.meta_path)


@pytest.mark.usefixtures("folder")
def test_called_at_the_end_of_the_outermost_import():
    found = []
    watch(lambda: found.append(importlib.import_module("watched.outer").DONE))
    importlib.import_module("watched.outer")
    assert found == [True]
    assert not is_watching()


@pytest.mark.usefixtures("folder")
def test_called_at_once_where_the_module_is_there():
    importlib.import_module("watched.inner")
    found = []
    watch(lambda: found.append(True))
    assert found == [True]
    assert not is_watching()


@pytest.mark.usefixtures("folder")
def test_a_failed_import_calls_nothing_and_the_next_does():
    found = []
    watch(lambda: found.append(True))
    with pytest.raises(KeyError, match="broken"):
        importlib.import_module("watched.broken")
    assert not found
    importlib.import_module("watched.outer")
    assert found == [True]


class Other:
    """Notes what it is asked for; finds one module its own way, asking all others or the path."""

    def __init__(self, name, *, asks_all=False):
        self.name, self.asks_all, self.asked, self.executed = name, asks_all, [], []

    def find_spec(self, fullname, path, target=None):
        self.asked.append(fullname)
        if fullname != self.name or self.asked.count(fullname) > 1:
            return None
        if self.asks_all:
            spec = importlib.util.find_spec(fullname)
        else:
            spec = PathFinder.find_spec(fullname, path, target)
        execute = spec.loader.exec_module

        def exec_module(module):
            self.executed.append(module.__name__)
            execute(module)

        spec.loader.exec_module = exec_module
        return spec


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("asks_all", [False, True])
@pytest.mark.parametrize("name", ["watched.outer", "watched.inner"])
@pytest.mark.parametrize("place", [0, 1])
def test_another_finder_is_asked_and_honoured(place, name, asks_all):
    other, found = Other(name, asks_all=asks_all), []
    watch(lambda: found.append(importlib.import_module("watched.outer").DONE))
    sys.meta_path.insert(place, other)
    importlib.import_module("watched.outer")
    assert other.executed == [name]
    assert {"watched.outer", "watched.inner"} <= set(other.asked)
    assert other in sys.meta_path
    # Where another answers for the outermost import without us, the next one is soon enough.
    importlib.import_module("watched.outer")
    if place == 0 and name == "watched.outer" and not asks_all:
        assert not found
        sys.meta_path.remove(other)
        importlib.reload(sys.modules["watched.outer"])
    assert found == [True]


def test_a_zip_file_loads_its_modules_itself(folder, monkeypatch):
    with zipfile.ZipFile(folder / "all.zip", "w") as packed:
        for name, content in FILES.items():
            packed.writestr(name, content)
    monkeypatch.syspath_prepend(folder / "all.zip")
    found = []
    watch(lambda: found.append(True))
    outer = importlib.import_module("watched.outer")
    assert found == [True]
    assert isinstance(outer.__loader__, zipimport.zipimporter)
    assert outer.__spec__.loader is outer.__loader__
    assert "exec_module" not in vars(outer.__loader__)
