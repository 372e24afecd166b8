"""A process that has imported the libraries, for tests that run sweeps."""

from collections.abc import Iterator

import pytest

from tests.warm import Warm


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """Runs commands in children that need import nothing."""
    with Warm(tmp_path_factory.mktemp("said")) as process:
        yield process
