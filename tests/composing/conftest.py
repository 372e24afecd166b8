"""What tests of composing share."""

import pytest

from glm_experiments.composing.loader import build_loader


@pytest.fixture(scope="session")
def loader():
    return build_loader()
