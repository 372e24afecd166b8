"""Which job of a sweep's folder a command means, however its grid has grown."""

from pathlib import Path

import pytest

from glm_experiments.composing.checking import check_jobs
from glm_experiments.composing.folders import name_job
from glm_experiments.record.errors import RunFailed
from glm_experiments.sweeps.ledger import Ledger
from glm_experiments.sweeps.outcome import Outcome
from glm_experiments.sweeps.points import build_point
from glm_experiments.sweeps.summary import Row, write_summary


def admit(folder: Path, *overrides: str) -> list[str]:
    """The folders of the jobs of a command, once they are kept."""
    checked = check_jobs(list(overrides), multirun=True)
    points = [build_point(*job) for job in checked.jobs]
    ledger = Ledger(folder)
    jobs = ledger.admit(points, fixed=checked.axes.fixed(), names=None)
    rows = [Row(job=job, outcome=Outcome(status="finished")) for job in ledger.jobs.values()]
    write_summary(ledger, rows)
    return [job.folder for job in jobs]


def test_a_job_keeps_its_folder(tmp_path):
    first = admit(tmp_path, "tuner.r=2,4")
    assert first == [name_job([f"tuner.r={r}"], fixed=()) for r in (2, 4)]
    assert admit(tmp_path, "tuner.r=4,2") == first[::-1]
    assert admit(tmp_path, "tuner.r=2,4,8")[:2] == first
    # An axis more: the jobs of its former value are those that are there.
    grown = admit(tmp_path, "tuner.r=2,4", "seed=0,1")
    assert [grown[0], grown[2]] == first
    assert len(set(grown)) == 4
    # What doesn't matter may be another, until it is an axis.
    assert admit(tmp_path, "tuner.r=2,4", "training.logging_steps=3") == first
    assert len(set(admit(tmp_path, "tuner.r=2", "training.micro_batch_size=2,4"))) == 2


def test_another_base_is_refused_with_the_difference(tmp_path):
    admit(tmp_path, "tuner.r=2,4", "training.learning_rate=1e-3")
    with pytest.raises(RunFailed) as refused:
        admit(tmp_path, "tuner.r=2,4,8", "training.learning_rate=1e-2")
    assert "training.learning_rate was 0.001, now 0.01; type the former" in str(refused.value)
    assert "name=NAME for a sweep of its own" in str(refused.value)


def test_equal_names_of_different_jobs_are_told_apart(tmp_path):
    admit(tmp_path, "tuner.r=2,4", "seed=0,1")
    jobs = [admit(tmp_path, "seed=5,6", f"tuner.r={r}") for r in (2, 4)]
    assert len({*jobs[0], *jobs[1]}) == 4


def test_a_name_is_typed_as_it_is():
    name = name_job(["tuner.r=4", 'data.author="小 智, or/so"', "seed=1"], fixed=["seed"])
    assert name.startswith("r_4-author_-or-so-")
    assert len(name_job([f"data.path={'x' * 300}"], fixed=())) < 120
