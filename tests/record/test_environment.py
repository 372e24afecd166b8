"""What the record says of the machine and of the checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import glm_experiments
from glm_experiments.record import environment
from glm_experiments.record.environment import capture_environment, read_git_state
from glm_experiments.record.writing import encode_json


def test_environment_values_are_never_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "a-secret-key")
    assert "a-secret-key" not in encode_json(capture_environment())


def test_git_state_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "glm_experiments"
    package.mkdir()
    (package / "a.py").write_text("")
    monkeypatch.setattr(environment, "PACKAGE_DIR", package)
    assert read_git_state() is None

    def git(*arguments: str) -> None:
        name = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *name, *arguments], check=True)

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "a")
    clean = read_git_state()
    assert clean is not None
    assert len(clean["commit"]) == 40
    assert clean["dirty"] is False
    (package / "a.py").write_text("changed")
    assert read_git_state() == {"commit": clean["commit"], "dirty": True}
    monkeypatch.setattr(environment, "PACKAGE_DIR", package / "inside")
    assert read_git_state() is None
    monkeypatch.setenv("PATH", "")
    assert read_git_state() is None


def test_the_checkout_is_that_of_the_package() -> None:
    assert Path(glm_experiments.__file__).parent == environment.PACKAGE_DIR
    assert "glm_experiments" in capture_environment()["versions"]
