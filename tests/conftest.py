"""What every test shares: no network beyond loopback, no tracker that phones home."""

import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
from typing import Any

import pytest

# Both cores already work inside torch; tokenizers' own pool only adds fork warnings.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
# Token ids of tests are nobody's; what tests start keeps them here, too.
os.environ["XDG_CACHE_HOME"] = USER_CACHE = tempfile.mkdtemp(prefix="glm-tests-")

# A shell that starts tests in the background has SIGINT ignored, for them and what they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

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
