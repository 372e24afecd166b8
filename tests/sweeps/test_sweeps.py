"""Sweeps as a user types them: what a job that ends badly is to the others, and what runs again."""

from __future__ import annotations

import csv
import itertools
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glm_experiments.record.files import RESULTS
from tests.running import read_losses, read_record
from tests.warm import Child, Warm, wait_until

pytestmark = pytest.mark.slow

SHORT = (
    *("model=tiny_glm", "tuner=lora", "data.num_train_rows=24", "data.num_validation_rows=2"),
    *("training.batch_size=4", "training.micro_batch_size=4", "training.save_steps=2"),
    *("training.logging_steps=1", "training.max_steps=4", "tracking=disabled"),
    *("evaluation.before=false", "evaluation.after=false"),
)
FAULTY = "tests.sweeps.faulty.main"
NUM_GOOD = 18
BAD = {
    "out_of_memory": "seed: 100",
    "killed": "seed: 101",
    "segfault": "seed: 102",
    "stalled": "seed: 103",
    "diverges": "seed: 104\ntraining: {learning_rate: 1.0e+30, warmup_share: 0}",
    "bad_data": "defaults: [override /data: files]\nseed: 105\ndata: {path: bad.jsonl}",
}
ENDS = {
    "out_of_memory": "out_of_memory",
    "killed": "killed",
    "segfault": "killed",
    "stalled": "timed_out",
    "diverges": "diverged",
    "bad_data": "failed",
}


@pytest.fixture
def options(tmp_path: Path) -> dict[str, str]:
    """24 experiments of the user's own by name, six of which end badly."""
    made = {
        f"good{index}": f"seed: {index}\ntuner: {{r: {2 + index % 2}}}" for index in range(NUM_GOOD)
    }
    folder = tmp_path / "conf" / "experiment"
    folder.mkdir(parents=True)
    every = [*made.items()]
    for index, item in enumerate(BAD.items()):
        every.insert(1 + 4 * index, item)
    for name, text in every:
        (folder / f"{name}.yaml").write_text(f"# @package _global_\n{text}\n")
    (tmp_path / "bad.jsonl").write_text('{"instruction": 1}\n{"no": "row"}\n' * 20)
    return dict(every)


def read_jobs(sweep: Path) -> dict[str, dict[str, Any]]:
    """The jobs of a sweep by the experiment of each."""
    jobs = json.loads((sweep / "sweep.json").read_text())["jobs"]
    return {
        override.partition("=")[2]: job
        for job in jobs
        for override in job["overrides"]
        if override.startswith("experiment=")
    }


def what_trained(folder: Path) -> tuple[Any, ...]:
    """What two runs of one config have in common to the bit."""
    outcome = read_record(folder)["outcome"]
    adapter = (folder / "adapter" / "adapter_model.safetensors").read_bytes()
    return read_losses(folder), outcome["objective"], outcome["loss"], adapter


def test_six_jobs_of_24_end_badly_and_the_others_know_nothing_of_it(
    warm: Warm, options: dict[str, str], tmp_path: Path
) -> None:
    sweep = tmp_path / "sweep"
    command = (
        *("-m", "--config-dir", "conf", *SHORT, f"experiment={','.join(options)}"),
        *(f"hydra.sweep.dir={sweep}", "hydra.launcher.heartbeat_timeout=25"),
        "hydra.launcher.num_jobs=2",
    )
    settings = {"main": FAULTY, "folder": tmp_path}
    done = warm.start(*command, environment={"FAULTS": "1"}, **settings).wait(times=5)
    assert done.code == 1, done.out + done.err
    assert "6 of 24 jobs did not finish" in done.err
    jobs = read_jobs(sweep)
    assert {name: jobs[name]["status"] for name in BAD} == ENDS
    assert {job["status"] for name, job in jobs.items() if name not in BAD} == {"finished"}
    for name, status in ENDS.items():
        assert read_record(Path(jobs[name]["folder"]))["run"]["status"] == status
        assert f"{name}  " in done.out  # in the table, with what it ended in
    assert "its process was ended by SIGSEGV" in done.out
    assert "Segmentation fault" in (Path(jobs["segfault"]["folder"]) / "train.log").read_text()
    with (sweep / "sweep.csv").open() as stream:
        rows = {row["experiment"]: row for row in csv.DictReader(stream)}
    assert {name: row["status"] for name, row in rows.items()} == {
        name: job["status"] for name, job in jobs.items()
    }
    best = json.loads((sweep / "sweep.json").read_text())["best"]
    objectives = {job["folder"]: job["objective"] for job in jobs.values() if job["objective"]}
    assert objectives[best] == min(objectives.values())

    # The same command runs again what was asked for, and nothing else.
    before = {name: contents(Path(job["folder"])) for name, job in jobs.items()}
    retry = "hydra.launcher.retry=[killed,out_of_memory,timed_out]"
    done = warm.start(*command, retry, **settings).wait(times=5)
    assert done.code == 1
    assert "2 of 24 jobs did not finish (1 diverged, 1 failed)" in done.err
    again = {"out_of_memory", "killed", "segfault", "stalled"}
    for name, job in read_jobs(sweep).items():
        is_same = contents(Path(job["folder"])) == before[name]
        assert is_same == (name not in again), name
        assert job["status"] == (ENDS[name] if name in ("diverges", "bad_data") else "finished")

    # Each is what it would be alone, those that were continued, too.
    for name in ("good0", "good7", *sorted(again)):
        folder = tmp_path / "alone" / name
        done = warm.run(
            *("--config-dir", "conf", *SHORT, f"experiment={name}", f"hydra.run.dir={folder}"),
            folder=tmp_path,
        )
        assert done.code == 0, done.err
        assert what_trained(folder) == what_trained(Path(jobs[name]["folder"])), name


def contents(folder: Path) -> dict[str, bytes]:
    """Every file in a folder, by name."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def below(pid: int) -> Iterator[int]:
    """All processes that a process has started, and those of theirs."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return
    for child in map(int, children):
        yield child
        yield from below(child)


def finished(sweep: Path) -> dict[str, int]:
    """When each job that is finished was recorded so."""
    found = {}
    for file in sweep.glob(f"*/{RESULTS}"):
        if json.loads(file.read_text())["run"]["status"] == "finished":
            found[file.parent.name] = file.stat().st_mtime_ns
    return found


def wait_or_kill(child: Child, rng: random.Random) -> bool:
    """Kill the launcher, the process that forks, or a job, at some moment; whether it came to."""
    deadline = time.monotonic() + rng.uniform(0.5, 6)
    while time.monotonic() < deadline:
        if Path(f"/proc/{child.pid}/stat").read_text().rpartition(") ")[2].startswith("Z"):
            return False
        time.sleep(0.02)
    victims = [child.pid, *below(child.pid)]
    os.kill(rng.choice([child.pid, rng.choice(victims)]), signal.SIGKILL)
    return True


@pytest.mark.parametrize("seed", range(2))
def test_whatever_is_killed_nothing_is_lost_and_nothing_runs_twice(
    seed: int, warm: Warm, tmp_path: Path
) -> None:
    rng = random.Random(seed)
    grid = ("tuner.r=2,4", "seed=0,1,2", "training.max_steps=6")
    words = {each.partition("=")[0]: each for each in (*SHORT, *grid)}
    command = ("-m", *words.values(), "hydra.launcher.num_jobs=2")
    num_kills = 0
    sweep = tmp_path / "sweep"
    while num_kills < int(os.environ.get("NUM_KILLS", "10")):
        before = finished(sweep)
        child = warm.start(*command, f"hydra.sweep.dir={sweep}")
        was_killed = wait_or_kill(child, rng)
        num_kills += was_killed
        child.wait()
        assert not list(below(child.pid))
        for name, when in before.items():
            assert finished(sweep).get(name) == when, f"{name} ran again"
        if not was_killed and len(before) == 6:
            for name in rng.sample(sorted(before), 3):  # nothing would be left to be killed
                for file in (sweep / name).iterdir():
                    if file.name == RESULTS:
                        file.unlink()
    done = warm.start(*command, f"hydra.sweep.dir={sweep}").wait(times=3)
    assert done.code == 0, done.err
    undisturbed = tmp_path / "undisturbed"
    done = warm.start(*command, f"hydra.sweep.dir={undisturbed}").wait(times=3)
    assert done.code == 0, done.err
    for name in finished(undisturbed):
        assert what_trained(sweep / name) == what_trained(undisturbed / name), name


def test_each_job_sees_its_own_device_and_has_its_share_of_the_cores(
    warm: Warm, tmp_path: Path
) -> None:
    command = ("-m", *SHORT, "seed=0,1,2,3", f"hydra.sweep.dir={tmp_path}")
    devices = ("hydra.launcher.devices=[0,1]", "hydra.launcher.on_failure=stop")
    done = warm.start(*command, *devices, main="tests.sweeps.faulty.seeing_main").wait(times=3)
    assert done.code == 0, done.err
    seen = [json.loads(file.read_text()) for file in tmp_path.glob("*/seen.json")]
    assert len(seen) == 4
    assert {each["devices"] for each in seen} == {"0", "1"}
    share = max(1, len(os.sched_getaffinity(0)) // 2)
    assert {(each["threads"], each["omp"]) for each in seen} == {(share, str(share))}
    for device in "01":  # one after the other on each, side by side on both
        spans = sorted((e["began"], e["ended"]) for e in seen if e["devices"] == device)
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))
    assert "begins on 0" in done.out
    assert "begins on 1" in done.out


def test_the_first_failure_stops_a_sweep_that_is_to_stop(warm: Warm, tmp_path: Path) -> None:
    rates = ("training.learning_rate=1e30,1e-3", "training.warmup_share=0")
    stop = "hydra.launcher.on_failure=stop"
    done = warm.run("-m", *SHORT, *rates, stop, f"hydra.sweep.dir={tmp_path}")
    assert done.code == 1
    assert "2 of 2 jobs did not finish (1 diverged, 1 waiting)" in done.err


def test_two_at_once_are_refused_and_so_is_another_base(warm: Warm, tmp_path: Path) -> None:
    command = ("-m", *SHORT, "seed=0,1", f"hydra.sweep.dir={tmp_path}")
    first = warm.start(*command)
    wait_until(lambda: (tmp_path / "sweep.json").exists())
    second = warm.run(*command)
    assert second.code == 1
    assert f"another sweep is at work in {tmp_path}; wait for it, or type name=NAME" in second.err
    assert first.wait().code == 0
    before = contents(tmp_path)
    other = warm.run(*command, "training.learning_rate=5e-4")
    assert other.code == 1
    assert "training.learning_rate was 0.0001, now 0.0005" in other.err
    assert contents(tmp_path) == before


def test_a_signal_lets_jobs_keep_a_checkpoint_and_the_same_command_goes_on(
    warm: Warm, tmp_path: Path
) -> None:
    words = {each.partition("=")[0]: each for each in (*SHORT, "training.max_steps=40")}
    command = ("-m", *words.values(), "seed=0,1,2", "hydra.launcher.num_jobs=2")
    sweep = (*command, f"hydra.sweep.dir={tmp_path / 'sweep'}")
    child = warm.start(*sweep)
    wait_until(lambda: len(list((tmp_path / "sweep").glob("*/metrics.jsonl"))) == 2)
    os.kill(child.pid, signal.SIGINT)
    done = child.wait()
    assert done.code == 130, done.err
    assert "2 running jobs keep a checkpoint and stop" in done.out
    jobs = json.loads((tmp_path / "sweep" / "sweep.json").read_text())["jobs"]
    assert [job["status"] for job in jobs] == ["interrupted", "interrupted", "waiting"]
    assert list(Path(jobs[0]["folder"]).glob("checkpoint-*"))
    done = warm.run(*sweep)
    assert done.code == 0, done.err
    undisturbed = warm.run(*command, f"hydra.sweep.dir={tmp_path / 'undisturbed'}")
    assert undisturbed.code == 0
    for name in finished(tmp_path / "undisturbed"):
        assert what_trained(tmp_path / "sweep" / name) == what_trained(
            tmp_path / "undisturbed" / name
        )
    # Of finished jobs in a sweep one checkpoint stays.
    assert all(
        len(list((tmp_path / "sweep" / name).glob("checkpoint-*"))) == 1
        for name in finished(tmp_path / "sweep")
    )


def test_the_winner_is_trained_on(warm: Warm, tmp_path: Path) -> None:
    rates = "training.learning_rate=1e-3,1e-5"
    done = warm.run("-m", *SHORT, "tuner.r=3", rates, f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert done.code == 0, done.err
    best = json.loads((tmp_path / "sweep" / "sweep.json").read_text())["best"]
    longer = ("training.max_steps=6", f"hydra.run.dir={tmp_path / 'longer'}")
    done = warm.run(f"from={best}", *longer)
    assert done.code == 0, done.err
    own, others = (read_record(Path(each))["config"] for each in (tmp_path / "longer", best))
    assert own["training"]["max_steps"] == 6
    own["training"]["max_steps"] = 4
    assert own == others
    done = warm.run(f"from={best}", "tuner=full", f"hydra.run.dir={tmp_path / 'full'}")
    assert done.code == 0, done.err
    tuned = read_record(tmp_path / "full")["config"]
    assert (tuned["tuner"]["kind"], tuned["training"]) == ("full", others["training"])
    done = warm.run(f"from={tmp_path / 'nowhere'}")
    assert done.code == 1
    assert "is no run's folder (it has no .hydra/config.yaml)" in done.err
