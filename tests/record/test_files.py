"""The names in a run's folder: what later commands look for is what a run writes."""

from __future__ import annotations

from pathlib import Path

from glm_experiments.record.files import checkpoint_name, numbered_checkpoints


def test_checkpoints_come_in_the_order_of_their_steps(tmp_path: Path) -> None:
    for step in (500, 3000, 40):
        (tmp_path / checkpoint_name(step)).mkdir()
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / "checkpoint-7").write_text("no folder")
    found = numbered_checkpoints(tmp_path)
    assert list(found) == [40, 500, 3000]
    assert found[40] == tmp_path / "checkpoint-40"
    assert numbered_checkpoints(tmp_path / "nowhere") == {}
