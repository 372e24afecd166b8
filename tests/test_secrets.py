"""No secret is kept: whatever a run, a failed one or a sweep leaves says nowhere what was typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from glm_experiments import train
from glm_experiments.commands import evaluate
from tests.running import TINY, UNMEASURED, Typed, read_record

SECRET = "hf_Geheimnis1234"
GIVEN = f"+training.extra.hub_token={SECRET}"


def files_with(secret: str, folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [str(path) for path in files if secret.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    "tracking", ["tensorboard", pytest.param("wandb", marks=pytest.mark.slow), "disabled"]
)
def test_a_run_keeps_no_secret(typed: Typed, tmp_path: Path, tracking: str) -> None:
    if tracking == "tensorboard":
        pytest.importorskip("tensorboard")
    folder = tmp_path / "run"
    done = typed.train(folder, *UNMEASURED, GIVEN, f"tracking={tracking}", "hydra.verbose=true")
    assert done.code == 0, done.err
    assert files_with(SECRET, tmp_path) == []
    marker = json.loads((folder / "checkpoint-2" / "complete.json").read_text())
    assert marker["settings"]["training.extra"] == {"hub_token": "***"}
    for name in ("config.yaml", "overrides.yaml", "hydra.yaml"):
        assert "hub_token" in (folder / ".hydra" / name).read_text()
    assert read_record(folder)["config"]["training"]["extra"] == {"hub_token": "***"}


def test_a_run_goes_on_and_is_measured_without_its_secret(typed: Typed, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert typed.train(folder, *UNMEASURED, GIVEN).code == 0
    (folder / "results.json").unlink()
    other = f"{GIVEN}_renewed"
    done = typed.train(folder, *UNMEASURED, other, "hydra.verbose=true")
    assert done.code == 0, done.err
    assert files_with(SECRET, tmp_path) == []
    done = typed(evaluate.main, folder, "evaluation.num_rows=1")
    assert done.code == 0, done.err
    # What stands there in its place is no value to train with.
    done = typed.train(tmp_path / "other", *UNMEASURED, "+training.extra.hub_token='***'")
    assert done.code == 1
    assert "training.extra.hub_token is hidden in what a run leaves; type it again" in done.err
    assert "'+training.extra.hub_token=${oc.env:HF_TOKEN}'" in done.err


def test_where_a_secret_comes_from_is_kept(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", SECRET)
    folder = tmp_path / "run"
    reference = "${oc.env:MY_TOKEN}"
    done = typed.train(folder, *UNMEASURED, f"+training.extra.hub_token={reference}")
    assert done.code == 0, done.err
    assert files_with(SECRET, tmp_path) == []
    for name in ("config.yaml", "overrides.yaml"):
        assert reference in (folder / ".hydra" / name).read_text()


def test_a_failed_run_keeps_no_secret(typed: Typed, tmp_path: Path) -> None:
    """Not even where the message is about it."""
    done = typed.train(tmp_path / "run", *UNMEASURED, f"+training.extra.hub_token=[{SECRET}]")
    assert done.code == 1
    assert "training.extra.hub_token must be text, got ['***']" in done.err
    record = read_record(tmp_path / "run")["run"]
    assert (record["status"], record["error"]["type"]) == ("failed", "ValueError")
    assert files_with(SECRET, tmp_path) == []


def test_a_mistake_is_told_without_the_secret_beside_it(typed: Typed, tmp_path: Path) -> None:
    for given in (f"training.extra.hub_token={SECRET}", f"training.extra={{hub_token: {SECRET}}}"):
        done = typed.train(tmp_path / "run", given, "tuner.r=x")
        assert done.code == 1
        assert "***: type +training.extra.KEY=VALUE to add a key" in done.err.replace("}", "")
        assert SECRET not in done.err


def test_a_sweep_keeps_no_secret(typed: Typed, tmp_path: Path) -> None:
    done = typed(
        train.main,
        *("-m", *TINY, *UNMEASURED, GIVEN, "training.warmup_share=0", "training.max_steps=2"),
        *("training.learning_rate=1e30,1e-3", f"hydra.sweep.dir={tmp_path / 'sweep'}"),
    )
    assert done.code == 1
    assert "1 of 2 jobs did not finish (1 diverged)" in done.err
    assert SECRET not in done.err
    assert files_with(SECRET, tmp_path) == []
    assert "hub_token=***" in (tmp_path / "sweep" / "multirun.yaml").read_text()
