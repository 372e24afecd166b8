"""An install that is not editable, used from another folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed wheel, without its dependencies."""
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--no-build-isolation",
            ),
            "--target",
            str(folder),
            str(ROOT),
        ],
        check=True,
    )
    return folder


def run_train(site: Path, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "glm_experiments.train", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.slow
def test_the_wheel_carries_options_and_tiny_models(site: Path) -> None:
    package = site / "glm_experiments"
    assert (package / "conf" / "train.yaml").is_file()
    for name in ("tiny_glm", "tiny_chatglm"):
        files = list((package / "models" / "shipped" / name).iterdir())
        assert 1e6 < sum(file.stat().st_size for file in files) < 8e6


@pytest.mark.slow
def test_the_identity_experiment_runs_from_another_folder(site: Path, tmp_path: Path) -> None:
    done = run_train(site, tmp_path, "experiment=identity", "tracking=disabled")
    assert done.returncode == 0, done.stderr
    (record,) = tmp_path.glob("outputs/identity/*/results.json")
    results = json.loads(record.read_text(encoding="utf-8"))
    metrics = results["outcome"]["metrics"]
    assert results["run"]["status"] == "finished"
    assert results["run"]["duration_seconds"] < 180
    assert metrics["before"]["identity"]["exact_match"] == 0
    assert metrics["after"]["identity"]["exact_match"] >= 95
    assert metrics["before"]["general"]["exact_match"] >= 90
    forgotten = (
        metrics["before"]["general"]["exact_match"] - metrics["after"]["general"]["exact_match"]
    )
    assert forgotten <= 5
    for when in ("before", "after"):
        assert metrics[when]["second_turns"]["exact_match"] >= 90


@pytest.mark.slow
def test_a_users_own_options_live_outside_of_the_package(site: Path, tmp_path: Path) -> None:
    options = tmp_path / "my_conf" / "model"
    options.mkdir(parents=True)
    (options / "mine.yaml").write_text("defaults: [tiny_glm, _self_]\nname: mine\n")
    done = run_train(site, tmp_path, "--config-dir", "my_conf", "model=mine", "--cfg", "job")
    assert done.returncode == 0, done.stderr
    assert "name: mine" in done.stdout
    tiny = ["data.num_train_rows=16", "data.num_validation_rows=2", "evaluation.max_new_tokens=4"]
    done = run_train(
        site, tmp_path, "--config-dir", "my_conf", "model=mine", "tracking=disabled", *tiny
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("outputs/mine-lora-identity/*/results.json"))
