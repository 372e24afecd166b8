"""Where the reference data lies for the tests that compare with recorded behaviour."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"

needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the reference data folder ../shared is missing"
)
