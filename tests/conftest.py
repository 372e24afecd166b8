"""What every test shares: no network beyond loopback, no tracker that phones home."""

import gc
import logging
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
from typing import Any

import pytest

# tokenizers' own pool only adds fork warnings.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
# Token ids of tests are nobody's; what tests start keeps them here, too.
os.environ["XDG_CACHE_HOME"] = USER_CACHE = tempfile.mkdtemp(prefix="glm-tests-")

# A shell that starts tests in the background has SIGINT ignored, for them and what they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

MOST_PROCESSES = 4


def uses_gpus(config: pytest.Config) -> bool:
    """Whether the marks that are asked for let a test on a GPU run."""
    marks = re.sub(r"not (multi_)?gpu", "", config.option.markexpr)
    return "gpu" in marks or not marks


def pytest_configure(config: pytest.Config) -> None:
    """Before torch is there, and for every process that a test starts: tiny models gain nothing
    from more threads, and processes that share the cores would wait for each other's."""
    if not uses_gpus(config):
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One process a core, as each has one thread; none beside this one for tests that share a GPU,
    and where files are named: whoever does that looks at them."""
    names_files = any(".py" in str(each) for each in config.invocation_params.args)
    if names_files or uses_gpus(config):
        return 0
    return min(os.cpu_count() or 1, MOST_PROCESSES)


def pytest_collection_finish() -> None:
    """Most libraries are there by now, and those who collect garbage need not look through them."""
    gc.freeze()


LOOPBACK = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "")
_connect = socket.socket.connect


def connect_to_loopback(self: socket.socket, address: Any) -> None:
    """Connect, unless the address lies outside of this machine."""
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in LOOPBACK:
        raise OSError(f"tests have no network: {address}")
    _connect(self, address)


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Any:
    """Keep every test of this process off the network."""
    socket.socket.connect = connect_to_loopback  # type: ignore[method-assign]
    yield
    socket.socket.connect = _connect  # type: ignore[method-assign]


@pytest.fixture
def asked_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Fills with every host and address that this process asks for; none of them answers."""
    asked: list[Any] = []

    def refuse(*given: Any, **_: Any) -> None:
        asked.append(given)
        raise OSError(f"not in this test: {given}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return asked


@pytest.fixture(autouse=True, scope="session")
def _no_cache_left() -> Any:
    """Leave nothing in the place of the user's cache."""
    yield
    shutil.rmtree(USER_CACHE, ignore_errors=True)


@pytest.fixture(autouse=True)
def _own_logging() -> Any:
    """Take down what a run's logging set up: it would write to a closed stream in the next test."""
    yield
    root = logging.getLogger()
    for handler in list(root.handlers):
        if type(handler) in (logging.StreamHandler, logging.FileHandler):
            root.removeHandler(handler)
            handler.close()


@pytest.fixture(autouse=True)
def _fresh_compiler(request: pytest.FixtureRequest) -> None:
    """Forget shapes of earlier tests: torch 2.13 can't compile flex attention for dynamic ones on
    the CPU."""
    if request.node.get_closest_marker("slow") and "torch._dynamo" in sys.modules:
        sys.modules["torch._dynamo"].reset()


@pytest.fixture(scope="session")
def composer():
    """Composes configs of the package's options, each choice of options once."""
    from glm_experiments.composing.composer import Composer
    from glm_experiments.composing.loader import build_loader

    return Composer(build_loader())


@pytest.fixture(scope="session")
def warm(tmp_path_factory):
    """Runs commands in children that need import nothing."""
    from tests.warm import Warm

    with Warm(tmp_path_factory.mktemp("said")) as process:
        yield process


@pytest.fixture
def forked_workers(monkeypatch, tmp_path_factory):
    """Lets runs start their workers by forks; returns what tells what those print."""
    from glm_experiments.processes import workers
    from tests.forked_workers import ForkedWorkers

    forked = ForkedWorkers(tmp_path_factory.mktemp("workers") / "said.txt")
    monkeypatch.setattr(workers, "multiprocessing", forked)
    return forked


@pytest.fixture
def typed(monkeypatch, capsys):
    """Types a command in this process; returns how it ended."""
    from tests.running import Typed

    return Typed(monkeypatch, capsys)


@pytest.fixture(scope="session")
def typed_once():
    """As `typed`, for runs that several tests look at."""
    from tests.running import Typed

    with pytest.MonkeyPatch.context() as monkeypatch:
        yield Typed(monkeypatch, None)
