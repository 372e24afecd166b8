import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from glm_experiments import train
from glm_experiments.record.files import numbered_checkpoints
from glm_experiments.record.markers import what_is_broken
from tests.running import last_of_each
from tests.waiting import HANG_SECONDS, wait_until

OVERRIDES = [
    "data=general",
    "data.num_train_rows=29",
    "data.num_validation_rows=5",
    "tuner.lora_dropout=0",
    "training.batch_size=8",
    "training.micro_batch_size=2",
    "training.num_train_epochs=2",
    "training.learning_rate=1e-3",
    "training.logging_steps=1",
    "training.eval_steps=4",
    "training.save_total_limit=null",
    "evaluation.batch_size=2",
    "evaluation.max_new_tokens=6",
    "'evaluation.metrics=[exact_match,perplexity]'",
    "tracking=disabled",
]
TWO = ["parallelism.num_devices=2"]
ENDLESS = ["training.max_steps=100000", "evaluation.before=false"]


def overrides(folder: Path, *more: str) -> list[str]:
    given = [each.strip("'") for each in OVERRIDES]
    return last_of_each(*given, f"hydra.run.dir={folder}", *more)


def run_here(folder: Path, monkeypatch, *more: str) -> None:
    monkeypatch.setattr(sys, "argv", ["glm-train", *overrides(folder, *more)])
    train.main()


def start_torchrun(folder: Path, *more: str) -> subprocess.Popen:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    command = [sys.executable, *launcher, "-m", "glm_experiments.train"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *overrides(folder, *more)],
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def read_record(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def read_metrics(folder: Path, key: str) -> dict[int, float]:
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {row["step"]: row[key] for row in rows if key in row}


def compare(folder: Path, alone: Path) -> None:
    for key in ("train/loss", "train/grad_norm", "validation/general/loss", "train/learning_rate"):
        values = read_metrics(alone, key)
        assert read_metrics(folder, key) == pytest.approx(values, rel=1e-4), key
    assert list(read_metrics(folder, "train/loss")) == list(range(1, 9))
    record, expected = read_record(folder), read_record(alone)
    assert record["run"]["status"] == expected["run"]["status"] == "finished"
    for key in ("tokens", "steps", "best_step", "trainable_parameters", "data"):
        assert record["outcome"][key] == expected["outcome"][key], key
    for when in ("before", "after"):
        metrics, wanted = (
            each["outcome"]["metrics"][when]["general"] for each in (record, expected)
        )
        assert metrics == pytest.approx(wanted, rel=1e-4)
    assert record["environment"]["data"] == expected["environment"]["data"]
    assert list(numbered_checkpoints(folder)) == list(numbered_checkpoints(alone))
    for checkpoint in numbered_checkpoints(folder).values():
        assert what_is_broken(checkpoint) is None
    assert {each.name for each in folder.iterdir()} == {each.name for each in alone.iterdir()}


def test_two_processes_do_the_experiment_of_one(tmp_path, monkeypatch, capfd, forked_workers):
    run_here(tmp_path / "alone", monkeypatch)
    capfd.readouterr()
    run_here(tmp_path / "two", monkeypatch, "parallelism=distributed", *TWO)
    compare(tmp_path / "two", tmp_path / "alone")
    predictions = [(tmp_path / name / "predictions.jsonl").read_text() for name in ("alone", "two")]
    assert predictions[0] == predictions[1]
    assert set(read_record(tmp_path / "two")["outcome"]["peak_memory_bytes"]) == {
        "cpu",
        "cpu of process 1",
    }
    spoken = "".join(capfd.readouterr()) + forked_workers.read()
    assert spoken.count("step 8/8: loss") == 1
    assert "Warning" not in spoken


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_a_sharded_run_does_the_experiment_of_one(tmp_path, monkeypatch):
    run_here(tmp_path / "alone", monkeypatch)
    run_here(tmp_path / "two", monkeypatch, "parallelism=sharded", *TWO)
    compare(tmp_path / "two", tmp_path / "alone")


@pytest.mark.slow
@pytest.mark.parametrize("parallelism", ["distributed", "sharded"])
def test_under_torchrun_there_is_one_run(parallelism, tmp_path, monkeypatch):
    run_here(tmp_path / "alone" / "run", monkeypatch)
    folder = f"{tmp_path}/many/${{now:%f}}"
    process = start_torchrun(Path(folder), f"parallelism={parallelism}")
    _, spoken = process.communicate()
    assert process.returncode == 0, spoken
    (run,) = (tmp_path / "many").iterdir()
    compare(run, tmp_path / "alone" / "run")


@pytest.mark.slow
def test_a_mistake_under_torchrun_ends_all(tmp_path):
    process = start_torchrun(
        tmp_path / "run",
        "parallelism=distributed",
        "data=files",
        "data.path=/nowhere.jsonl",
    )
    _, spoken = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 1
    assert spoken.count("glm-train: ") == 1, spoken
    assert read_record(tmp_path / "run")["run"]["status"] == "failed"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parallelism", "signum", "code"),
    [("distributed", signal.SIGINT, 130), ("sharded", signal.SIGTERM, 143)],
)
def test_a_signal_leaves_one_checkpoint_to_go_on_from(parallelism, signum, code, tmp_path, warm):
    folder, chosen = tmp_path / "run", f"parallelism={parallelism}"
    child = warm.start(*overrides(folder, chosen, *TWO, *ENDLESS))
    wait_for_step(folder)
    child.send(signum)
    ended = child.wait()
    assert ended.code == code, ended.err
    assert read_record(folder)["run"]["status"] == "interrupted"
    last, checkpoint = list(numbered_checkpoints(folder).items())[-1]
    assert what_is_broken(checkpoint) is None
    assert last == max(read_metrics(folder, "train/loss"))


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_worker_ends_the_run_with_a_record(victim, tmp_path, warm):
    folder = tmp_path / "run"
    child = warm.start(*overrides(folder, "parallelism=distributed", *TWO, *ENDLESS))
    wait_for_step(folder)
    workers = sorted(children_of(child.pid))  # the resource tracker is not among them
    os.kill(workers[victim], signal.SIGKILL)
    ended = child.wait()
    assert ended.code == 1
    record = read_record(folder)
    assert record["run"]["status"] == "failed"
    assert f"the process of rank {victim} ended unexpectedly (SIGKILL" in ended.err
    assert f"rank {victim}" in record["run"]["error"]["message"]
    if victim == 1:
        assert record["outcome"]["trainable_parameters"] == 61440
    assert not any(Path(f"/proc/{each}").exists() for each in workers)


def wait_for_step(folder: Path) -> None:
    def is_there() -> bool:
        with contextlib.suppress(FileNotFoundError):
            return len(read_metrics(folder, "train/loss")) > 2
        return False

    wait_until(is_there, what="the third step is logged")


def children_of(parent: int) -> list[int]:
    """The workers of a run: its children that multiprocessing spawned."""
    tasks = Path(f"/proc/{parent}/task").iterdir()
    found = itertools.chain(*((each / "children").read_text().split() for each in tasks))
    return [
        int(each) for each in found if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()
    ]


@pytest.mark.multi_gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("parallelism", ["distributed", "sharded"])
def test_two_gpus_do_the_experiment_of_one(parallelism, dtype, tmp_path, monkeypatch):
    settings = f"model.dtype={dtype}", "training.activation_checkpointing=true"
    run_here(tmp_path / "alone", monkeypatch, *settings)
    run_here(tmp_path / "two", monkeypatch, f"parallelism={parallelism}", *TWO, *settings)
    precision = {"rel": 1e-4} if dtype == "float32" else {"rel": 0.05, "abs": 1e-3}
    values = read_metrics(tmp_path / "alone", "train/loss")
    assert read_metrics(tmp_path / "two", "train/loss") == pytest.approx(values, **precision)
    outcome = read_record(tmp_path / "two")["outcome"]
    assert set(outcome["peak_memory_bytes"]) == {"cuda:0", "cuda:1"}


@pytest.mark.multi_gpu
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_worker_does_not_leave_the_other_waiting_for_its_gpu(victim, tmp_path, warm):
    test_a_killed_worker_ends_the_run_with_a_record(victim, tmp_path, warm)
