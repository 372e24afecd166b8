"""What a run of a former version left is read, measured, talked to, exported and continued.

`tests/former_versions/1` was made by the code before there were versions:
glm-train name=of_version_1 model=tiny_glm data=files data.path=rows.jsonl ... (its overrides.yaml)
"""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from glm_experiments import config, train
from glm_experiments.commands import chat, evaluate, export
from glm_experiments.record import versions
from glm_experiments.record.versions import VERSION, adding, migrate_config, migrate_settings
from glm_experiments.runs import read_config
from tests.running import UNMEASURED, Typed, last_of_each, read_losses, read_record

FORMER = Path(__file__).parent / "former_versions"
VERSIONS = sorted(path.name for path in FORMER.iterdir())


@pytest.fixture(params=VERSIONS)
def run_dir(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of a former version, in a folder of this test's own."""
    shutil.copytree(FORMER / request.param, tmp_path / "former")
    monkeypatch.chdir(tmp_path / "former")  # its rows are named relative to it
    return Path("run")


def command_of(run_dir: Path, *more: str) -> list[str]:
    """What was typed, with what was done then and is another default now, and more; of two values
    for one key the later counts."""
    typed = OmegaConf.to_container(OmegaConf.load(run_dir / ".hydra" / "overrides.yaml"))
    assert isinstance(typed, list)
    return [
        *last_of_each(*map(str, typed), "data.long_answers=leave_out", *more),
        f"hydra.run.dir={run_dir}",
    ]


def test_there_is_a_run_of_every_former_version() -> None:
    assert [str(version) for version in range(1, VERSION)] == VERSIONS
    size = sum(path.stat().st_size for path in FORMER.rglob("*") if path.is_file())
    assert size < 300_000 * len(VERSIONS)


def test_it_is_measured_as_it_was(run_dir: Path, typed: Typed) -> None:
    done = typed(evaluate.main, run_dir)
    assert done.code == 0, done.err
    (file,) = run_dir.glob("evaluations/*/evaluation.json")
    measured = json.loads(file.read_text())
    before = read_record(run_dir)["outcome"]["metrics"]["after"]["validation"]
    after = measured["outcome"]["metrics"]["after"]["validation"]
    assert after["perplexity"] == pytest.approx(before["perplexity"], rel=1e-3)
    assert measured["version"] == VERSION
    done = typed(evaluate.main, run_dir, "--checkpoint", "2", "evaluation.num_rows=1")
    assert done.code == 0, done.err


def test_it_is_talked_to(run_dir: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("What is your name?\n"))
    done = typed(chat.main, run_dir)
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) >= 2


def test_it_is_exported(run_dir: Path, typed: Typed) -> None:
    assert typed(export.main, run_dir, "--to", "exported").code == 0
    assert Path("exported", "prompt_format.json").is_file()


def test_its_end_is_an_end(run_dir: Path, typed: Typed) -> None:
    record = (run_dir / "results.json").read_bytes()
    done = typed(train.main, *command_of(run_dir))
    assert done.code == 0, done.err
    assert (run_dir / "results.json").read_bytes() == record
    done = typed(train.main, *command_of(run_dir, "tuner.r=2"))
    assert done.code == 1
    assert "tuner.r was 1, now 2" in done.err
    # What could not be said then is as it was without saying.
    assert read_config(run_dir, []).data.cache_dir is None


def test_it_is_continued(run_dir: Path, typed: Typed) -> None:
    """As after a kill between two checkpoints."""
    losses = read_losses(run_dir)
    shutil.rmtree(run_dir / "adapter")
    (run_dir / "results.json").unlink()
    lines = (run_dir / "metrics.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["step"] <= 2]
    (run_dir / "metrics.jsonl").write_text("".join(kept))
    done = typed(train.main, *command_of(run_dir, "tuner.r=2"))
    assert done.code == 1
    assert "tuner.r was 1, now 2" in done.err
    done = typed(train.main, *command_of(run_dir))
    assert done.code == 0, done.err
    checkpoint = run_dir.resolve() / "checkpoint-2"
    assert f"continuing {checkpoint}" in (run_dir / "train.log").read_text()
    assert read_losses(run_dir) == pytest.approx(losses, rel=1e-3)
    assert read_record(run_dir)["version"] == VERSION


# What is left today


def test_all_that_a_run_leaves_says_its_version(typed: Typed, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = typed.train(folder, *UNMEASURED, "tuner.name=mine", "tuner.r=1")
    assert done.code == 0, done.err
    checkpoint = folder / "checkpoint-2"
    marked = [checkpoint / "complete.json", folder / "adapter" / "complete.json"]
    described = [each / "adapter" / "adapter.json" for each in (folder, checkpoint)]
    for file in [folder / "results.json", folder / "config.json", *marked, *described]:
        assert json.loads(file.read_text())["version"] == VERSION, file
    saved = OmegaConf.load(folder / ".hydra" / "config.yaml")
    assert saved.version == VERSION
    kept = json.loads((folder / "config.json").read_text())
    for each in (saved, kept, read_record(folder)["config"]):
        assert (each["tuner"]["kind"], each["tuner"]["name"]) == ("lora", "mine")
        assert each["parallelism"]["kind"] == "single"
    # A name of the user's own hides nothing from what comes later.
    done = typed(evaluate.main, folder, "evaluation.num_rows=1")
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("file", "act"),
    [
        ("results.json", "train"),
        ("results.json", "evaluate"),
        ("config.json", "evaluate"),
        ("adapter/adapter.json", "evaluate"),
        (".hydra/config.yaml", "evaluate"),
    ],
)
def test_what_a_later_version_left_is_not_guessed_at(
    file: str, act: str, typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(FORMER / VERSIONS[0], tmp_path / "former")
    monkeypatch.chdir(tmp_path / "former")
    run_dir = Path("run")
    if file == "config.json":
        record = read_record(run_dir)
        (run_dir / file).write_text(json.dumps({"version": 99, **record["config"]}))
    elif file.endswith(".yaml"):
        (run_dir / "results.json").unlink()
        text = (run_dir / file).read_text()
        (run_dir / file).write_text(f"version: 99\n{text}")
    else:
        content = json.loads((run_dir / file).read_text())
        (run_dir / file).write_text(json.dumps({**content, "version": 99}))
    words = command_of(run_dir) if act == "train" else [str(run_dir)]
    done = typed(train.main if act == "train" else evaluate.main, *words)
    assert done.code == 1
    assert f"{file} is of version 99, and this tool knows no later one than {VERSION}" in done.err


# The way from one version to the next


def test_a_new_field_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = (
        (adding("data.cache_dir", None), adding("tuner.rank_pattern", {}, kind="lora")),
        (adding("tuner.scale", 1.0),),
    )
    monkeypatch.setattr(versions, "STEPS", steps)
    first = {"seed": 0, "tuner": {"name": "lora", "r": 8}, "data": {"name": "mine"}}
    assert migrate_config(1, first) == {
        "seed": 0,
        "tuner": {"name": "lora", "r": 8, "rank_pattern": {}, "scale": 1.0},
        "data": {"name": "mine", "cache_dir": None},
    }
    assert first["data"] == {"name": "mine"}
    second = {"tuner": {"name": "mine", "kind": "full"}, "version": 2}
    assert migrate_config(2, second) == {"tuner": {"name": "mine", "kind": "full", "scale": 1.0}}
    assert migrate_config(3, second) == {"tuner": {"name": "mine", "kind": "full"}}
    settings = {"seed": 0, "data": "hash", "data.name": "mine", "tuner.name": "lora"}
    assert migrate_settings(1, settings) == {
        **settings,
        "data.cache_dir": None,
        "tuner.rank_pattern": {},
        "tuner.scale": 1.0,
    }


@pytest.mark.parametrize("version", [0, -1, "2", 2.0, None, True])
def test_what_is_no_version_is_named(version: object) -> None:
    with pytest.raises(ValueError, match=r"a\.json has the version"):
        versions.read_version({"version": version}, source="a.json")


def test_every_kind_is_told_by_its_schema() -> None:
    for section, schemas in config.SCHEMAS.items():
        assert [config.kind_of(section, each) for each in schemas.values()] == list(schemas)
