"""Twenty kinds of fault, and one meaning of survived: the reason is named, nothing that was
finished is lost or changed, and the same command goes on to the result of an undisturbed run.

What another file asserts already is not repeated. Such are: damaged, foreign and malicious models
(`models/published/test_broken_checkpoints.py`) and adapters (`tuners/test_adapters.py`), trackers
(`tracking/test_tracked_run.py`), a worker that dies (`processes/test_workers.py`), used folders
(`test_used_folders.py`), rows of all kinds (`data/`), the hub (`models/published/`).
"""

from __future__ import annotations

import copy
import functools
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from glm_experiments import config, runs
from glm_experiments.composing.loader import build_loader, compose
from glm_experiments.config.changes import ANOTHER_EXPERIMENT, MAY_CHANGE, MEASURED
from glm_experiments.record.errors import Refused
from glm_experiments.record.files import numbered_checkpoints
from glm_experiments.record.markers import read_files, what_is_broken, write_marker
from glm_experiments.training.admission import Admitted, Finished, admit
from glm_experiments.training.checkpoints import find_last_complete
from tests.composing.reports import report
from tests.config_mistakes import MISTAKES
from tests.mutations import damage_file
from tests.running import read_losses, read_record, read_sweep
from tests.tracking.wandb_server import WandbServer
from tests.warm import Child, Ended, Fault, Warm, wait_until

pytestmark = pytest.mark.slow

SEED = 20
NUM_STEPS = 6
RUN = (
    *("model=tiny_glm", "data=identity", "tuner=lora", "data.num_validation_rows=4"),
    *("data.num_train_rows=24", "training.batch_size=4", "training.micro_batch_size=4"),
    *("training.save_steps=2", "training.logging_steps=1", "training.save_total_limit=2"),
    *("evaluation.num_rows=2", "evaluation.max_new_tokens=4", "evaluation.before=false"),
    *("evaluation.metrics=[exact_match,perplexity]", "tracking=disabled"),
)
WEIGHTS = Path("adapter", "adapter_model.safetensors")
SECRET = "hf_never_to_be_written_down"


@pytest.fixture(scope="module")
def undisturbed(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    done = warm.run(*command(folder))
    assert done.code == 0, done.err
    assert sorted(numbered_checkpoints(folder)) == [4, NUM_STEPS]
    return folder


@pytest.fixture
def used(undisturbed: Path, tmp_path: Path) -> Path:
    """A copy of that run."""
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    return folder


@pytest.fixture
def killed(used: Path) -> Path:
    """The same, as if it had been killed after its last checkpoint."""
    (used / "results.json").unlink()
    shutil.rmtree(used / "adapter")
    return used


def command(folder: Path | str, *more: str) -> tuple[str, ...]:
    """What is typed to run in a folder; of two words for one key the later counts."""
    quoted = str(folder).replace("\\", "\\\\").replace('"', '\\"')
    words = {each.partition("=")[0]: each for each in (*RUN, *more)}
    return (*words.values(), f'hydra.run.dir="{quoted}"')


def contents(folder: Path) -> dict[str, bytes]:
    """Every file in a folder, by name; but for the log, in which each attempt leaves a line."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("train.log", ".lock")
    }


def whole_checkpoints(folder: Path) -> dict[int, dict[str, bytes]]:
    """The contents of all checkpoints that are finished, by step."""
    return {
        step: contents(path)
        for step, path in numbered_checkpoints(folder).items()
        if what_is_broken(path) is None
    }


def check_named(ended: Ended, *parts: str, code: int = 1) -> None:
    """See that a command ended with the reason, and without a trace of its own code."""
    assert ended.code == code, ended.out + ended.err
    for part in parts:
        assert part in ended.out + ended.err
    assert "Traceback" not in ended.out + ended.err


def check_goes_on(warm: Warm, folder: Path, like: Path, *more: str) -> Ended:
    """See that the same command goes on from what is finished to the result of another run."""
    finished = whole_checkpoints(folder)
    done = warm.run(*command(folder, *more))
    assert done.code == 0, done.out + done.err
    check_result(folder, like)
    after = whole_checkpoints(folder)
    for step, files in finished.items():
        assert step < min(after) or after[step] == files  # of the oldest some make room
    return done


def check_result(folder: Path, like: Path) -> None:
    """See that a run came to what another came to, bit for bit, and left nothing half done."""
    ours, theirs = read_record(folder), read_record(like)
    assert ours["run"]["status"] == theirs["run"]["status"] == "finished"
    for key in ("steps", "loss", "tokens", "metrics", "trainable_parameters"):
        assert ours["outcome"][key] == theirs["outcome"][key], key
    assert read_losses(folder) == read_losses(like)
    for name in (WEIGHTS, "predictions.jsonl"):
        assert (folder / name).read_bytes() == (like / name).read_bytes()
    assert sorted(whole_checkpoints(folder)) == sorted(numbered_checkpoints(folder))
    hidden = {path.name for path in folder.iterdir() if path.name.startswith(".")}
    assert hidden <= {".hydra", ".lock"}


# 1: signals in every phase

PHASES = {
    "composing": ("glm_experiments.starting.compose_run", 1),
    "importing": ("glm_experiments.experiment.run", 1),
    "reading data": ("glm_experiments.experiment.load_splits", 1),
    "encoding": ("glm_experiments.experiment.encode_splits", 1),
    "loading": ("glm_experiments.assembly.prepare_model", 1),
    "before": ("glm_experiments.assembly.Assembly.evaluate_base", 1),
    "training": ("glm_experiments.record.metrics_log.MetricsLog.log", 3),
    "saving": ("glm_experiments.training.trainer.write_marker", 2),
    "last step": ("glm_experiments.record.metrics_log.MetricsLog.log", NUM_STEPS),
    "training's end": ("glm_experiments.training.progress.Progress.on_train_end", 1),
    "keeping": ("glm_experiments.experiment.write_marked", 1),
    "after": ("glm_experiments.assembly.Assembly.evaluate_tuned", 1),
    "reporting": ("glm_experiments.experiment.write_predictions", 1),
    "writing the record": ("glm_experiments.record.run.capture_environment", 1),
}
SIGNALS = [
    ("composing", signal.SIGTERM),
    ("importing", signal.SIGINT),
    ("reading data", signal.SIGTERM),
    ("encoding", signal.SIGHUP),
    ("loading", signal.SIGINT),
    ("before", signal.SIGHUP),
    ("training", signal.SIGINT),
    ("training", signal.SIGHUP),
    ("saving", signal.SIGTERM),
    ("last step", signal.SIGINT),
    ("training's end", signal.SIGTERM),
    ("keeping", signal.SIGINT),
    ("after", signal.SIGHUP),
    ("reporting", signal.SIGINT),
    ("writing the record", signal.SIGTERM),
]
TRAINED = ("training", "saving", "last step", "training's end", "keeping", "after")


@pytest.mark.parametrize(("phase", "signum"), SIGNALS)
def test_a_signal(
    phase: str, signum: signal.Signals, warm: Warm, undisturbed: Path, tmp_path: Path
) -> None:
    folder, (place, nth) = tmp_path / "run", PHASES[phase]
    fault = Fault(place=place, nth=nth, signum=signum)
    ended = warm.run(*command(folder), fault=fault)
    check_named(ended, "glm-train: interrupted", code=128 + signum)
    if phase == "composing":
        assert not folder.exists()
    elif phase != "writing the record":  # whose run may have come to its end
        record = read_record(folder)["run"]
        assert (record["status"], record["error"]["message"]) == ("interrupted", signum.name)
    assert not [path for path in folder.glob(".*") if path.name not in (".hydra", ".lock")]
    assert phase not in TRAINED or whole_checkpoints(folder)
    check_goes_on(warm, folder, undisturbed)


# 2: kill -9 at random moments


@pytest.mark.parametrize("case", range(2))
def test_a_killed_run(case: int, warm: Warm, undisturbed: Path, tmp_path: Path) -> None:
    rng, folder = Random(f"{SEED} kill {case}"), tmp_path / "run"
    seconds = read_record(undisturbed)["run"]["duration_seconds"]
    for _ in range(2):
        child = warm.start(*command(folder))
        time.sleep(rng.uniform(0.1, 1.2 * seconds))
        child.send(signal.SIGKILL)
        assert child.wait().code in (-signal.SIGKILL, 0)
    check_goes_on(warm, folder, undisturbed)


@pytest.mark.parametrize("phase", ["saving", "keeping", "writing the record"])
def test_a_run_killed_while_it_writes(
    phase: str, warm: Warm, undisturbed: Path, tmp_path: Path
) -> None:
    place, nth = PHASES[phase]
    folder = tmp_path / "run"
    fault = Fault(place=place, nth=nth, signum=signal.SIGKILL)
    assert warm.run(*command(folder), fault=fault).code == -signal.SIGKILL
    assert not (folder / "results.json").exists()
    check_goes_on(warm, folder, undisturbed)


def test_an_export_killed_while_it_writes(warm: Warm, undisturbed: Path, tmp_path: Path) -> None:
    typed = (undisturbed, "--to", tmp_path / "merged")
    export = functools.partial(warm.run, *typed, main="glm_experiments.commands.export.main")
    fault = Fault(place="glm_experiments.commands.export.shutil.move", signum=signal.SIGKILL)
    before = contents(undisturbed)
    assert export(fault=fault).code == -signal.SIGKILL
    (half,) = tmp_path.glob(".merged-*")
    assert export().code == 0
    assert not half.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]
    assert (tmp_path / "merged" / "model.safetensors").is_file()
    assert contents(undisturbed) == before


# 3: a full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """A disk of its own at `tmp_path / "disk"`; called, it gets another size."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(*options: str) -> bool:
        typed = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(disk)]
        return subprocess.run(typed, capture_output=True, check=False).returncode == 0

    if shutil.which("mount") is None or not mount("size=1m"):
        pytest.skip("a small disk can't be mounted here")
    yield lambda size: assert_true(mount("remount", f"size={size}"))
    subprocess.run(["umount", "-l", str(disk)], capture_output=True, check=True)


def assert_true(value: bool) -> None:
    assert value


def test_a_full_disk(
    small_disk: Callable[[str], None], warm: Warm, undisturbed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "disk" / "run"
    num_bytes = sum(map(len, contents(undisturbed).values()))
    for share in (0.1, 0.5, 0.9):
        small_disk(str(int(share * num_bytes)))
        check_named(warm.run(*command(folder)), "space", str(folder))
    small_disk("64m")
    check_goes_on(warm, folder, undisturbed)


# 4 and 5: damage to every file that a run leaves, and files that are missing


def test_a_damaged_checkpoint_is_passed_over(killed: Path) -> None:
    newest = killed / f"checkpoint-{NUM_STEPS}"
    names = [str(path.relative_to(newest)) for path in newest.rglob("*") if path.is_file()]
    assert {"optimizer.pt", "scheduler.pt", "trainer_state.json", "complete.json"} <= set(names)
    assert find_last_complete(killed) == newest
    for name in names:
        rng, content = Random(f"{SEED} damage {name}"), (newest / name).read_bytes()
        ways: list[Callable[[], object]] = [(newest / name).unlink]
        ways += [functools.partial((newest / name).write_bytes, b"")]
        if name != "complete.json":  # which says the same if a blank is put into it
            ways += 2 * [functools.partial(damage_file, newest / name, rng)]
        for damage in ways:
            damage()
            if (newest / name).is_dir() or contents(newest).get(name) != content:
                assert find_last_complete(killed) == killed / "checkpoint-4", name
            shutil.rmtree(newest / name, ignore_errors=True)
            (newest / name).write_bytes(content)
        assert find_last_complete(killed) == newest


def test_a_damaged_run_goes_on_or_says_what_is_damaged(
    killed: Path, warm: Warm, undisturbed: Path
) -> None:
    kept = contents(killed)
    damaged = killed / "config.json"
    damaged.write_bytes(b"\xff{" + kept[damaged.name])
    check_named(warm.run(*command(killed)), str(damaged), "training.resume=never")
    assert contents(killed) == kept | {damaged.name: damaged.read_bytes()}
    damaged.write_bytes(kept[damaged.name])
    # What nothing depends on may be in any state; of the curve the last line may be cut.
    with (killed / "metrics.jsonl").open("ab") as stream:
        stream.write(b'{"step": 99, "train/lo')
    for name in ("predictions.jsonl", "train.log", ".hydra/config.yaml", ".hydra/hydra.yaml"):
        (killed / name).write_bytes(b"\xff\0")
    (killed / f"checkpoint-{NUM_STEPS}" / "complete.json").unlink()
    done = check_goes_on(warm, killed, undisturbed)
    assert f"continuing {killed / 'checkpoint-4'}" in done.out


def test_of_what_a_run_leaves_anything_may_be_missing(used: Path, tmp_path: Path) -> None:
    given, away = config.to_plain(parse_run()), tmp_path / "away"
    trained = runs.read_config(used, [])
    names = sorted(path.name for path in used.iterdir())
    assert {"adapter", "config.json", "metrics.jsonl", "results.json", ".hydra"} <= set(names)
    for name in names:
        (used / name).rename(away)
        before = contents(used)
        admitted = admit(used, config=given)
        if name == "results.json":
            assert admitted == Admitted(checkpoint=used / f"checkpoint-{NUM_STEPS}")
        else:
            assert isinstance(admitted, Finished)
        assert runs.read_config(used, []) == trained
        place = used / f"checkpoint-{NUM_STEPS}" if name == "adapter" else used
        assert runs.find_adapter(used, "last") == place / "adapter"
        assert contents(used) == before
        away.rename(used / name)


@pytest.mark.parametrize("name", ["results.json", "config.json"])
def test_a_finished_run_whose_record_is_damaged_is_refused(
    name: str, used: Path, undisturbed: Path
) -> None:
    given = config.to_plain(parse_run())
    for number in range(20):
        damage_file(used / name, Random(f"{SEED} record {number}"))
        damaged = used / name
        before = contents(used)
        said = ""  # it may go on; else it says whose fault it is that it may not
        try:
            admit(used, config=given)
        except Refused as error:
            said = str(error)
        assert not said or str(used) in said
        assert contents(used) == before
        shutil.rmtree(damaged, ignore_errors=True)
        shutil.copyfile(undisturbed / name, damaged)


def parse_run(*more: str) -> config.Config:
    """The config of the run."""
    return config.parse(compose(build_loader(), [*RUN, *more]))


def test_a_damaged_adapter_is_not_answered_with(used: Path) -> None:
    # The card is for people, who may write on in it.
    names = {path.name for path in (used / "adapter").iterdir()} - {"README.md"}
    assert {"adapter.json", "adapter_config.json", WEIGHTS.name, "complete.json"} <= names
    for name in names:
        file = used / "adapter" / name
        content = file.read_bytes()
        file.write_bytes(content[:-9])
        with pytest.raises(ValueError, match=rf"{used / 'adapter'} can't be used: .*{name}"):
            runs.find_adapter(used, "last")
        file.write_bytes(content)
    assert runs.find_adapter(used, "last") == used / "adapter"


# 6 and 7: divergence, and out of memory


def test_a_diverged_run_says_so_again(warm: Warm, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    more = ("training.learning_rate=1e30", "training.warmup_share=0", "training.save_steps=1")
    records = []
    for _ in range(2):
        check_named(warm.run(*command(folder, *more)), "training.learning_rate=1e+29")
        records.append(read_record(folder))
        assert not (folder / "adapter").exists()
    first, again = (each["run"] for each in records)
    assert first["status"] == again["status"] == "diverged"
    assert first["error"]["message"] == again["error"]["message"]


@pytest.mark.parametrize(
    ("place", "nth"),
    [
        ("glm_experiments.assembly.prepare_model", 1),
        ("glm_experiments.training.trainer.GLMTrainer.training_step", 4),
        ("glm_experiments.assembly.generate_answers", 2),
    ],
)
def test_out_of_memory(place: str, nth: int, warm: Warm, undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    fault = Fault(place=place, nth=nth, error="OutOfMemoryError")
    check_named(warm.run(*command(folder), fault=fault), "OutOfMemoryError is simulated")
    assert read_record(folder)["run"]["status"] == "out_of_memory"
    check_goes_on(warm, folder, undisturbed)


# 8: a job that dies


def test_jobs_that_die_in_their_sweep(warm: Warm, undisturbed: Path, tmp_path: Path) -> None:
    sweep = ("-m", *RUN, "tuner.r=4,8", f"hydra.sweep.dir={tmp_path}")
    place = "glm_experiments.record.metrics_log.MetricsLog.log"
    ended = warm.run(*sweep, fault=Fault(place=place, nth=4, signum=signal.SIGKILL))
    assert ended.code == 1
    assert "2 of 2 jobs did not finish (2 killed)" in ended.err
    jobs = read_sweep(tmp_path)
    assert [job["record"]["run"]["status"] for job in jobs] == ["killed", "killed"]
    assert "its process was ended by SIGKILL" in jobs[0]["message"]
    done = warm.run(*sweep)
    assert done.code == 0, done.err
    check_result(Path(jobs[1]["folder"]), undisturbed)


# 9: bad rows


def test_bad_rows_are_named_and_repaired_ones_are_trained_on(warm: Warm, tmp_path: Path) -> None:
    good = [json.dumps({"prompt": f"{n} + 1", "response": str(n + 1)}) for n in range(28)]
    bad = ['{"prompt": "1 + 1"', '{"prompt": "", "response": "2"}', '{"prompt": 3, "response": 4}']
    bad += ['{"prompt": "\\ud800", "response": "2"}', "[]", '{"answer": "2"}', "\x00"]
    more = ("data=files", "data.max_bad_share=0.1")
    files = {name: tmp_path / f"{name}.jsonl" for name in ("good", "mixed")}
    files["good"].write_text("\n".join(good))
    files["mixed"].write_text("\n".join([*good[:9], *bad, *good[9:]]))
    like, folder = tmp_path / "like", tmp_path / "run"
    assert warm.run(*command(like, *more, f"data.path={files['good']}")).code == 0
    typed = (*more, f"data.path={files['mixed']}")
    ended = warm.run(*command(folder, *typed))
    check_named(ended, "20.0% of the rows can't be used", f"{files['mixed']}, line 10")
    assert len((folder / "rejected.jsonl").read_text().splitlines()) == len(bad)
    shutil.copyfile(files["good"], files["mixed"])
    check_goes_on(warm, folder, like, *typed)
    assert not (folder / "rejected.jsonl").exists()


# 10: mistakes in a config


def test_there_are_mistakes_enough() -> None:
    assert sum(len(mistakes) for _, mistakes in MISTAKES) >= 70


@pytest.mark.parametrize(("base", "mistakes"), MISTAKES)
def test_every_mistake_is_named_with_what_to_type(base: str, mistakes: dict[str, str]) -> None:
    assert sorted(report(*base.split(), *mistakes)) == sorted(mistakes.values())


def test_a_key_that_is_given_twice_is_refused() -> None:
    assert report("tuner.r=4", "tuner=lora", "tuner.r=8", "tuner=lora_linear") == [
        "tuner.r is given more than once (tuner.r=4, tuner.r=8); type one of them",
        "tuner is given more than once (tuner=lora, tuner=lora_linear); type one of them",
    ]


def test_a_context_that_no_model_has_is_refused_before_weights_are_loaded(
    warm: Warm, undisturbed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    fault = Fault(place="glm_experiments.assembly.prepare_model", error="OutOfMemoryError")
    ended = warm.run(*command(folder, "data.context_length=1000000000"), fault=fault)
    check_named(ended, "data.context_length=1000000000", "at most 2048", "data.context_length=2048")
    check_goes_on(warm, folder, undisturbed)


def test_a_refused_command_changes_nothing(warm: Warm, used: Path) -> None:
    before = contents(used)
    for more in (["tuner.r=-1"], ["tuner=loar", "seed=x"], ["training.batch_size=6"]):
        check_named(warm.run(*command(used, *more)), "glm-train: - ")
        assert contents(used) == before


# 11: a tracker that is out of order


def test_a_tracker_that_breaks_while_a_run_goes_on(
    warm: Warm, undisturbed: Path, tmp_path: Path
) -> None:
    server = WandbServer(breaks_on_run=True)
    environment = {
        "WANDB_BASE_URL": server.url,
        "WANDB_API_KEY": "0123456789" * 4,
        "WANDB_MODE": "online",
        "WANDB_ERROR_REPORTING": "false",
    }
    more = ("tracking.init_timeout_seconds=3", "tracking.finish_timeout_seconds=1")
    typed = command(tmp_path / "run", "tracking=wandb", *more)
    try:
        done = warm.run(*typed, environment=environment)
    finally:
        server.shutdown()
    assert server.runs
    assert done.code == 0, done.err
    check_result(tmp_path / "run", undisturbed)


# 12: two runs in one folder


def test_two_runs_in_one_folder(warm: Warm, undisturbed: Path, tmp_path: Path) -> None:
    folder, gate = tmp_path / "run", tmp_path / "gate"
    place, nth = PHASES["training"]
    first = warm.start(*command(folder), fault=Fault(place=place, nth=nth, waits_for=str(gate)))
    wait_until((tmp_path / "gate.reached").exists)
    before = contents(folder)
    for more in ([], ["training.resume=never"], ["tuner.r=4"]):
        second = warm.run(*command(folder, *more))
        check_named(second, f"another process is at work in {folder}")
        assert contents(folder) == before
    gate.touch()
    assert first.wait().code == 0
    check_result(folder, undisturbed)


def test_two_runs_at_one_moment(warm: Warm, undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    start = functools.partial(warm.start, *command(folder))
    ended = sorted(warm.run_all([start, start]), key=lambda each: each.code)
    assert ended[0].code == 0
    if ended[1].code:  # else it came after the first one's end
        check_named(ended[1], "another process is at work in")
    check_result(folder, undisturbed)


# 13: changed settings


def change(value: Any) -> Any:
    """Another value of the same kind."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value * 2 + 1
        case list():
            return [*value, "x"]
        case dict():
            return {**value, "x": 1}
        case None:
            return 1
    return f"{value}x"


def test_every_setting_is_held_against_what_was_trained(used: Path) -> None:
    given = config.to_plain(parse_run())
    before = contents(used)
    assert isinstance(admit(used, config=given), Finished)
    num_refused = 0
    for section, values in given.items():
        for key in values if isinstance(values, dict) else [None]:
            name = section if key is None else f"{section}.{key}"
            changed = copy.deepcopy(given)
            home, place = (changed, section) if key is None else (changed[section], key)
            home[place] = change(home[place])
            if name == "training.resume" or (key == "kind" and section != "tuner"):
                continue  # which decides on the others; what is no key of the user's
            if {name, section} & (ANOTHER_EXPERIMENT | MEASURED):
                num_refused += 1
                with pytest.raises(Refused, match=rf"{name} was .*, now "):
                    admit(used, config=changed)
            else:
                assert {name, section} & MAY_CHANGE
                assert isinstance(admit(used, config=changed), Finished)
    assert num_refused > 30
    assert contents(used) == before


# 14: malicious files


class Malicious:
    """A pickle that writes a file where it is loaded."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_checkpoint_that_would_run_code_is_refused(
    name: str, killed: Path, warm: Warm, undisturbed: Path, tmp_path: Path
) -> None:
    import torch

    shutil.rmtree(killed / f"checkpoint-{NUM_STEPS}")
    checkpoint = killed / "checkpoint-4"
    settings = json.loads((checkpoint / "complete.json").read_text())["settings"]
    content = (checkpoint / name).read_bytes()
    torch.save({"state": Malicious(tmp_path / "ran")}, checkpoint / name)
    (checkpoint / "training_args.bin").write_bytes(pickle.dumps(Malicious(tmp_path / "ran")))
    write_marker(checkpoint, settings=settings)
    ended = warm.run(*command(killed))
    assert not (tmp_path / "ran").exists()
    check_named(ended, str(checkpoint), "could run code")
    (checkpoint / name).write_bytes(content)
    write_marker(checkpoint, settings=settings)
    check_goes_on(warm, killed, undisturbed)
    assert not (tmp_path / "ran").exists()


def test_a_config_that_would_run_code_is_refused(killed: Path) -> None:
    (killed / "config.json").unlink()
    file = killed / ".hydra" / "config.yaml"
    file.write_text(f"name: !!python/object/apply:os.mkdir [{killed / 'ran'}]\n")
    with pytest.raises(ValueError, match=r"config\.yaml is damaged"):
        runs.read_config(killed, [])
    file.write_text("name: ${oc.env:HOME}\n")
    with pytest.raises(ValueError, match=f"saved in {killed} can't be used"):
        runs.read_config(killed, [])
    assert not (killed / "ran").exists()


def test_a_model_that_brings_code_is_loaded_without_it(warm: Warm, tmp_path: Path) -> None:
    from glm_experiments.models.published.locations import SHIPPED

    model = tmp_path / "model"
    shutil.copytree(SHIPPED / "tiny_glm", model)
    (model / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: ...\n")
    for name in ("config.json", "tokenizer_config.json"):
        settings = json.loads((model / name).read_text())
        kinds = ("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer")
        settings["auto_map"] = dict.fromkeys(kinds, "evil.Evil")
        settings["auto_map"]["AutoTokenizer"] = ["evil.Evil", "evil.Evil"]
        (model / name).write_text(json.dumps(settings))
    done = warm.run(*command(tmp_path / "run", f"model.path={model}"))
    assert done.code == 0, done.err
    assert not (tmp_path / "ran").exists()


# 15: secrets


def test_a_secret_is_written_nowhere(warm: Warm, tmp_path: Path) -> None:
    more = f"+training.extra.hub_token={SECRET}"
    environment = {"WANDB_API_KEY": SECRET, "HF_TOKEN": SECRET}
    ended = warm.run(*command(tmp_path / "run", more), environment=environment)
    assert ended.code == 0, ended.err
    said = [(ended.out + ended.err).encode(), *contents(tmp_path).values()]
    assert not [each for each in said if SECRET.encode() in each]


# 16: no hub


@pytest.mark.parametrize(
    ("typed", "parts"),
    [
        ("model.path=nobody/nothing", ["model.path=nobody/nothing", "hub is out of reach"]),
        ("data=files data.path=nobody/nothing", ["nobody/nothing is no file here"]),
        ("model.path=nowhere", ["model.path=nowhere: there is no such folder"]),
        ("data=files data.path=nowhere.jsonl", ["data.path=nowhere.jsonl: there is no such file"]),
    ],
)
def test_without_the_hub(
    typed: str, parts: list[str], warm: Warm, undisturbed: Path, tmp_path: Path
) -> None:
    start = time.monotonic()
    check_named(warm.run(*command(tmp_path / "run", *typed.split())), *parts)
    assert time.monotonic() - start < 60
    assert read_record(tmp_path / "run")["run"]["status"] == "failed"
    if "model" in typed:  # nothing was trained: the folder is free for what was meant
        check_goes_on(warm, tmp_path / "run", undisturbed)


# 17: library versions


def test_a_run_of_other_versions_goes_on(killed: Path, warm: Warm, undisturbed: Path) -> None:
    record = read_record(undisturbed)
    record["run"] |= {"status": "interrupted", "error": {"type": "x", "message": "SIGTERM"}}
    versions = record["environment"]["versions"]
    record["environment"]["versions"] = {**dict.fromkeys(versions, "0.1"), "gone": "3"}
    (killed / "results.json").write_text(json.dumps(record))
    shutil.rmtree(killed / f"checkpoint-{NUM_STEPS}")
    check_goes_on(warm, killed, undisturbed)
    assert read_record(killed)["environment"]["versions"] == versions


# 18 and 19: determinism, locale and closed streams


def test_elsewhere_the_same_command_comes_to_the_same(undisturbed: Path, tmp_path: Path) -> None:
    """In a process of its own, in another folder, locale, time zone, and order of sets."""
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("LC_")},
        **{"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        **{"TZ": "Asia/Shanghai", "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"},
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).resolve().parents[1]), *sys.path[1:]]),
    }
    done = subprocess.run(
        [sys.executable, "-m", "glm_experiments.train", *command("run")],
        capture_output=True,
        env=environment,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"rror" not in done.stderr
    check_result(tmp_path / "run", undisturbed)


def test_without_anybody_who_listens(warm: Warm, undisturbed: Path, tmp_path: Path) -> None:
    ways = [{"closed": [1]}, {"closed": [2]}, {"closed": [1, 2]}, {"broken": [1, 2]}]
    starts = [
        functools.partial(warm.start, *command(tmp_path / str(number)), **streams)
        for number, streams in enumerate(ways)
    ]
    for number, done in enumerate(warm.run_all(starts)):
        folder = tmp_path / str(number)
        assert done.code == 0, done.out + done.err
        check_result(folder, undisturbed)
        text = (folder / "train.log").read_text(encoding="utf-8")
        assert f"step {NUM_STEPS}/{NUM_STEPS}" in text


# 20: odd and unwritable folders


def test_a_folder_of_an_odd_name(warm: Warm, undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path.joinpath("a b", "中 é=1", "it's [1], {2}", "-x", "n" * 200)
    place, nth = PHASES["training"]
    fault = Fault(place=place, nth=nth, signum=signal.SIGTERM)
    assert warm.run(*command(folder), fault=fault).code == 128 + signal.SIGTERM
    check_goes_on(warm, folder, undisturbed)
    typed = ("evaluation.num_rows=1", "evaluation.max_new_tokens=1")
    done = warm.run(folder, *typed, main="glm_experiments.commands.evaluate.main")
    assert done.code == 0, done.err


def test_a_folder_that_cannot_be_written(warm: Warm, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "closed").mkdir(mode=0o500)
    folders: dict[Path, str] = {
        tmp_path / "file": "exists",
        tmp_path / "file" / "run": "Not a directory",
        tmp_path / "loop" / "run": "symbolic links",
        tmp_path / ("n" * 300): "File name too long",
        Path("/proc/run"): "No such file or directory",
    }
    if os.geteuid():  # who is root may write everywhere
        folders[tmp_path / "closed" / "run"] = "Permission denied"
    starts: list[Callable[[], Child]] = [
        functools.partial(warm.start, *command(folder)) for folder in folders
    ]
    for ended, reason in zip(warm.run_all(starts), folders.values(), strict=True):
        check_named(ended, reason, "type hydra.run.dir=FOLDER")
    assert (tmp_path / "file").read_text() == "mine"


def test_the_marker_of_a_checkpoint_lists_what_there_is(undisturbed: Path) -> None:
    for path in numbered_checkpoints(undisturbed).values():
        listed = read_files(path / "complete.json")
        assert listed is not None
        assert set(listed) | {"complete.json"} == set(contents(path))
