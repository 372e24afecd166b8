"""What checkpoints take is known before the first job, and held against the free space."""

from collections import namedtuple
from pathlib import Path

import pytest

from glm_experiments import config
from glm_experiments.composing.loader import build_loader, compose
from glm_experiments.record.errors import RunFailed
from glm_experiments.sweeps import disk
from glm_experiments.sweeps.disk import check_space, measure_trained, plan_bytes

LENGTHS = {"max_steps": 10, "save_steps": 4, "save_total_limit": 2, "keep": None}


@pytest.mark.parametrize(
    ("changes", "stays", "most"),
    [
        ({}, 1, 3),
        ({"keep": "all"}, 2, 3),
        ({"keep": "none"}, 0, 3),
        ({"keep": "all", "save_total_limit": None}, 3, 4),
        ({"keep": "all", "save_steps": None}, 1, 2),
        ({"keep": "all", "max_steps": None}, 2, 3),
    ],
)
def test_checkpoints_are_counted(changes, stays, most):
    # A checkpoint has what trains and the two moments of each; the adapter stays in any case.
    assert plan_bytes({**LENGTHS, **changes}, 100) == (100 + 300 * stays, 100 + 300 * most)


def test_what_trains_is_measured_without_weights():
    loader = build_loader()
    parsed = [config.parse(compose(loader, [f"tuner.r={r}"])) for r in (2, 4)]
    sizes = [measure_trained(each) for each in parsed]
    assert sizes[0] is not None
    assert sizes == [sizes[0], 2 * sizes[0]]
    lost = config.parse(compose(loader, ["model.path=/nowhere"]))
    assert measure_trained(lost) is None


def test_too_little_space_is_refused_before_the_first_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage(free=5 * 2**20))
    jobs = [{"training": LENGTHS}] * 4
    check_space(tmp_path, jobs, [2**17] * 4, at_once=1)
    with pytest.raises(RunFailed, match="the checkpoints of 4 jobs take") as refused:
        check_space(tmp_path, jobs, [2**20] * 4, at_once=1)
    assert "take 22.0 MiB" in str(refused.value)
    assert "has 5.0 MiB; free some, or type training.keep=none" in str(refused.value)
