"""A folder in which something was trained already: nothing in it is lost, nothing is mixed."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.running import UNMEASURED, read_losses, read_record

SHORT = (
    *("model=tiny_glm", "data=identity", "tuner=lora", "tracking=disabled"),
    *("data.num_validation_rows=8", "data.num_train_rows=32"),
    *("training.batch_size=4", "training.micro_batch_size=4"),
    *("training.save_steps=2", "training.logging_steps=1"),
    *("evaluation.num_rows=4", "evaluation.max_new_tokens=8", *UNMEASURED),
)
WEIGHTS = Path("adapter", "adapter_model.safetensors")
ANEW = "training.resume=never"


@pytest.fixture(scope="module")
def finished(tmp_path_factory, typed_once):
    """A run of 8 steps with the checkpoints 6 and 8."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert typed_once.train(folder, tiny=SHORT).code == 0
    return folder


@pytest.fixture
def used(finished, tmp_path):
    """A copy of the finished run."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    return folder


@pytest.fixture
def killed(used):
    """The same, as if it had been killed after its last checkpoint."""
    (used / "results.json").unlink()
    shutil.rmtree(used / "adapter")
    return used


def contents(folder: Path, *, but: tuple[str, ...] = ("train.log", ".lock")) -> dict[str, bytes]:
    """Every file in a folder, by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in but
    }


def steps_of(folder: Path) -> list[int]:
    return sorted(int(each.name.partition("-")[2]) for each in folder.glob("checkpoint-*"))


def damage(file: Path) -> None:
    """Overwrite four bytes."""
    data = bytearray(file.read_bytes())
    data[-4:] = b"\xff\xff\xff\x7f"
    file.write_bytes(data)


def edit_json(file: Path, change: Any) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")


# 1: started anew, or from what is whole


def test_what_a_folder_held_is_moved_aside_whole(used, typed):
    before = contents(used)
    (used / "evaluations" / "1").mkdir(parents=True)
    (used / "mine.txt").write_text("the user's own")
    change = ("training.learning_rate=1e-3", "training.max_steps=4", "data.num_train_rows=24")
    more = (*change, "training.num_train_epochs=null", ANEW)
    done = typed.train(used, *more, tiny=SHORT)
    assert done.code == 0, done.err
    said = f"what was in {used} is now in {used / 'former' / '1'}"
    (line,) = [line for line in done.out.splitlines() if said in line]
    assert contents(used / "former" / "1") == before
    assert (used / "former" / "1" / "evaluations" / "1").is_dir()
    assert (used / "mine.txt").exists()
    assert steps_of(used) == [2, 4]
    assert list(read_losses(used)) == [1, 2, 3, 4]
    assert "learning_rate: 0.001" in (used / ".hydra" / "config.yaml").read_text()
    assert "step 8/8" in (used / "former" / "1" / "train.log").read_text()
    text = (used / "train.log").read_text()
    assert line in text
    assert "step 4/4" in text
    assert "step 8/8" not in text
    # The folder is one run's again, which goes on, ends, and gives way in its turn.
    last = json.loads((used / "checkpoint-4" / "complete.json").read_text())
    assert "complete.json" not in last["files"]
    (used / "results.json").unlink()
    done = typed.train(used, *more[:-1], tiny=SHORT)
    assert "checkpoint-4 is the end of this training: nothing is left to do" in done.out
    assert typed.train(used, *more, tiny=SHORT).code == 0
    assert (used / "former" / "2" / "checkpoint-4").is_dir()
    assert steps_of(used) == [2, 4]


def test_a_run_moved_aside_is_still_a_run(used, typed):
    from glm_experiments import runs

    change = ("training.learning_rate=1e-3", "training.max_steps=2")
    assert typed.train(used, *change, "training.num_train_epochs=null", ANEW, tiny=SHORT).code == 0
    former = used / "former" / "1"
    assert runs.read_config(former, []).training.learning_rate == 1e-4
    assert runs.read_config(used, []).training.learning_rate == 1e-3
    assert runs.find_adapter(former, "last") == former / "adapter"
    assert runs.find_adapter(used, "2") == used / "checkpoint-2" / "adapter"
    with pytest.raises(ValueError, match="has no checkpoint of step 8"):
        runs.find_adapter(used, "8")


def test_a_training_continues_the_newest_whole_checkpoint_and_keeps_what_it_makes(
    tmp_path, finished, typed
):
    folder = tmp_path / "run"
    keep = "training.save_total_limit=3"
    assert typed.train(folder, keep, tiny=SHORT).code == 0
    (folder / "results.json").unlink()
    for step in (6, 8):
        damage(folder / f"checkpoint-{step}" / "optimizer.pt")
    done = typed.train(folder, keep, tiny=SHORT)
    assert done.code == 0, done.err
    assert f"continuing {folder / 'checkpoint-4'}" in done.out
    assert steps_of(folder) == [4, 6, 8]
    assert steps_of(folder / "former" / "1") == [6, 8]
    assert load_file(folder / WEIGHTS).keys() == load_file(finished / WEIGHTS).keys()
    assert (folder / WEIGHTS).read_bytes() == (finished / WEIGHTS).read_bytes()
    assert read_losses(folder) == read_losses(finished)


def test_with_nothing_whole_an_attempt_begins_anew_and_keeps_what_it_makes(killed, finished, typed):
    for step in (6, 8):
        damage(killed / f"checkpoint-{step}" / "optimizer.pt")
    done = typed.train(killed, tiny=SHORT)
    assert done.code == 0, done.err
    assert steps_of(killed) == [6, 8]
    assert steps_of(killed / "former" / "1") == [6, 8]
    assert (killed / WEIGHTS).read_bytes() == (finished / WEIGHTS).read_bytes()
    assert (killed / "metrics.jsonl").read_text().count("train/loss") == 8


def test_going_back_to_an_earlier_checkpoint_loses_none(killed, finished, typed):
    done = typed.train(killed, f"training.resume={killed / 'checkpoint-6'}", tiny=SHORT)
    assert done.code == 0, done.err
    assert steps_of(killed) == [6, 8]
    assert steps_of(killed / "former" / "1") == [8]
    assert (killed / WEIGHTS).read_bytes() == (finished / WEIGHTS).read_bytes()


# 2: what makes another experiment, and what may change

OTHER = (
    *("seed=1", "data.context_length=96", "data.packing=true", "data.prompt_format=alpaca"),
    *("data.train_on=last_turn", "tuner.r=4", "training.max_grad_norm=0.5"),
)


@pytest.mark.parametrize("state", ["used", "killed"])
def test_what_makes_another_experiment_is_refused_by_name(state, request, typed):
    folder = request.getfixturevalue(state)
    before = contents(folder)
    for overrides in (OTHER, *([each] for each in OTHER[1:5])):
        done = typed.train(folder, *overrides, tiny=SHORT)
        assert done.code == 1
        for key, _, value in (each.partition("=") for each in overrides):
            was = re.search(rf"{re.escape(key)} was (\S+), now (\S+);", done.err)
            assert was is not None, done.err
            assert was[2].lower() == value
            assert was[1] != was[2]
        assert "type the former values to continue it, or training.resume=never" in done.err
        assert contents(folder) == before


def test_the_cures_after_an_out_of_memory_are_the_same_experiment(killed, typed):
    cures = (
        *("training.micro_batch_size=2", "training.activation_checkpointing=true"),
        *("model.attn_implementation=eager", "evaluation.batch_size=2", "training.save_steps=3"),
        *("parallelism=data_parallel", "parallelism.devices=[cpu,cpu]"),
    )
    shutil.rmtree(killed / "checkpoint-8")
    done = typed.train(killed, *cures, tiny=SHORT)
    assert done.code == 0, done.err
    assert "continuing" in done.out
    assert read_record(killed)["config"]["training"]["micro_batch_size"] == 2


def test_a_cure_on_a_finished_run_changes_nothing(used, typed):
    before = contents(used)
    assert typed.train(used, "training.micro_batch_size=2", tiny=SHORT).code == 0
    assert contents(used) == before


def test_early_stopping_makes_the_cadence_of_evaluation_part_of_the_experiment():
    from glm_experiments.config.changes import pick_experiment

    training = {"eval_steps": 4, "early_stopping_patience": None}
    assert pick_experiment({"training": training}) == {"training.early_stopping_patience": None}
    stopping = {"training": {**training, "early_stopping_patience": 2}}
    assert pick_experiment(stopping)["training.eval_steps"] == 4


def test_rows_may_lie_elsewhere_and_must_be_the_same(tmp_path, typed):
    rows = [{"prompt": f"{each} + 1", "response": str(each + 1)} for each in range(20)]
    for name, some in {"here": rows, "there": rows, "other": rows[::-1]}.items():
        text = "".join(json.dumps(row) + "\n" for row in some)
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    folder = tmp_path / "run"
    short = (
        *("model=tiny_glm", "data=files", "tracking=disabled", "training.save_steps=1"),
        *("data.num_validation_rows=2", "training.batch_size=8", *UNMEASURED),
    )
    assert typed.train(folder, f"data.path={tmp_path / 'here.jsonl'}", tiny=short).code == 0
    done = typed.train(folder, f"data.path={tmp_path / 'there.jsonl'}", tiny=short)
    assert "data.path was" in done.err  # finished: nobody reads the rows again
    (folder / "results.json").unlink()
    before = contents(folder, but=("train.log", ".lock", "config.yaml", "overrides.yaml",
                                   "hydra.yaml"))  # fmt: skip
    done = typed.train(folder, f"data.path={tmp_path / 'other.jsonl'}", tiny=short)
    assert done.code == 1
    assert "checkpoint-3 was made with other settings: data was" in done.err
    after = contents(folder)
    assert {name: after[name] for name in before} == before
    assert "results.json" not in after
    assert typed.train(folder, f"data.path={tmp_path / 'there.jsonl'}", tiny=short).code == 0


def test_every_key_is_in_one_of_the_two_lists_here_and_in_the_readme():
    from glm_experiments import config
    from glm_experiments.config import changes

    keys = set()
    for field in dataclasses.fields(config.Config):
        kinds = config.SCHEMAS.get(field.name)
        if kinds is None:
            hinted = getattr(config, f"{field.name.title()}Config", None)
            kinds = {} if hinted is None else {field.name: hinted}
        keys |= {f"{field.name}.{key.name}" for kind in kinds.values()
                 for key in dataclasses.fields(kind)} or {field.name}  # fmt: skip
    assert len(keys) > 60
    lists = (changes.ANOTHER_EXPERIMENT, changes.MAY_CHANGE)
    for key in keys:
        names = {key, key.partition(".")[0]}
        assert [bool(names & each) for each in lists].count(True) == 1, key
    sections = {key.partition(".")[0] for key in keys}
    assert keys | sections >= changes.ANOTHER_EXPERIMENT | changes.MAY_CHANGE
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip(): line for line in readme.splitlines() if "|" in line}
    for title, listed in zip(("another experiment", "may change"), lists, strict=True):
        assert set(re.findall(r"`([a-z_.]+)`", rows[title])) == listed


def test_a_checkpoint_of_an_older_version_is_continued(killed, finished, typed):
    """Its marker knows neither the data's section nor that some settings may change."""
    (killed / "config.json").unlink()
    shutil.rmtree(killed / "checkpoint-8")
    config = read_record(finished)["config"]
    old = {
        f"{section}.{key}": value
        for section in ("model", "tuner", "training")
        for key, value in config[section].items()
        if key not in ("logging_steps", "eval_steps", "save_steps", "save_total_limit", "resume")
    }

    def as_then(marker: dict[str, Any]) -> None:
        marker["settings"] = {**old, "seed": 0, "data": marker["settings"]["data"]}
        marker["files"]["complete.json"] = [1, 1]  # of a checkpoint that was written twice

    edit_json(killed / "checkpoint-6" / "complete.json", as_then)
    done = typed.train(killed, "training.micro_batch_size=2", "tuner.r=4", tiny=SHORT)
    assert "tuner.r was 8, now 4" in done.err
    done = typed.train(killed, "training.micro_batch_size=2", tiny=SHORT)
    assert done.code == 0, done.err
    assert f"continuing {killed / 'checkpoint-6'}" in done.out


# 3: a finished run is finished


def test_a_finished_run_is_left_as_it_is(used, typed, monkeypatch):
    from glm_experiments import train

    before, returned = contents(used), []
    run_job = train.run_job

    def watch(*args, **kwargs):
        returned.append(run_job(*args, **kwargs))
        return returned[-1]

    monkeypatch.setattr(train, "run_job", watch)
    done = typed.train(used, tiny=SHORT)
    assert done.code == 0
    (line,) = done.out.splitlines()
    assert line.endswith(f"{used} holds this run, finished: nothing is left to do")
    assert contents(used) == before
    assert returned == [read_record(used)["outcome"]["objective"]["value"]]
    # Without its checkpoints, too: what they were for has been done.
    for step in (6, 8):
        shutil.rmtree(used / f"checkpoint-{step}")
    assert typed.train(used, tiny=SHORT).code == 0
    assert (used / "results.json").read_bytes() == before["results.json"]


def test_a_finished_run_is_told_before_torch_is_imported(used):
    command = [sys.executable, "-X", "importtime", "-m", "glm_experiments.train", *SHORT]
    done = subprocess.run(
        [*command, f"hydra.run.dir={used}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "nothing is left to do" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"torch", "transformers", "peft", "datasets"}


def test_a_finished_sweep_is_finished(tmp_path, typed):
    from glm_experiments import train

    sweep = f"hydra.sweep.dir={tmp_path / 'sweep'}"
    steps = ("training.max_steps=2", "training.num_train_epochs=null")
    command = ("-m", *SHORT, *steps, "tuner.r=2,4", sweep)
    assert typed(train.main, *command).code == 0
    before = contents(tmp_path / "sweep", but=("train.log", ".lock", "multirun.yaml"))
    done = typed(train.main, *command)
    assert done.code == 0
    assert "2 of 2 jobs are finished already" in done.out
    assert contents(tmp_path / "sweep", but=("train.log", ".lock", "multirun.yaml")) == before


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["training.num_train_epochs=2"], "training.num_train_epochs was 1.0, now 2.0;"),
        (
            ["evaluation.max_new_tokens=16", "evaluation.metrics=[bleu4]"],
            "now ['bleu4']; to measure it so, type glm-evaluate {} evaluation.max_new_tokens=16 "
            "evaluation.metrics=[bleu4]\n",
        ),
        (["evaluation.num_rows=null"], "type glm-evaluate {} evaluation.num_rows=null\n"),
    ],
)
def test_what_a_finished_run_does_not_say_is_asked_for_otherwise(overrides, named, used, typed):
    before = contents(used)
    done = typed.train(used, *overrides, tiny=SHORT)
    assert done.code == 1
    assert named.format(used) in done.err
    assert contents(used) == before


# 4: a refused attempt leaves nothing


def test_a_config_that_is_refused_leaves_no_folder(tmp_path, typed):
    done = typed.train(tmp_path / "run", "training.batch_size=10", tiny=SHORT)
    assert done.code == 1
    assert "training.batch_size=10 is not a multiple" in done.err
    assert not (tmp_path / "run").exists()


def test_what_a_later_command_reads_is_what_trained(killed, typed):
    from glm_experiments import runs

    before = runs.read_config(killed, [])
    assert typed.train(killed, "training.batch_size=10", tiny=SHORT).code == 1
    assert typed.train(killed, "data.context_length=96", tiny=SHORT).code == 1
    assert typed.train(killed, "training.resume=/nowhere", tiny=SHORT).code == 1
    assert runs.read_config(killed, []) == before
    # An attempt that was let in and failed before it trained.
    assert typed.train(killed, "parallelism.device=cuda:99", tiny=SHORT).code == 1
    assert runs.read_config(killed, []) == before
    assert read_record(killed)["config"]["parallelism"]["device"] == "cuda:99"


def test_a_second_command_leaves_nothing_in_a_folder_at_work(killed, typed):
    before = contents(killed)
    code = (
        "import sys; from pathlib import Path; from glm_experiments.record.run import *\n"
        f"with lock_folder(Path({str(killed)!r})):\n    print('in', flush=True); input()"
    )
    arguments = [sys.executable, "-c", code]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "in\n"
        done = typed.train(killed, "tuner.r=4", ANEW, tiny=SHORT)
        first.communicate("\n")
    assert done.code == 1
    assert f"another process is at work in {killed}" in done.err
    assert contents(killed) == before


# 5: the adapter


def test_a_damaged_adapter_is_refused_by_name(used, typed):
    from glm_experiments import runs
    from glm_experiments.commands import chat, evaluate, export
    from glm_experiments.tuners import load_adapter

    damage(used / WEIGHTS)
    said = f"{used / 'adapter'} can't be used: adapter_model.safetensors is not as it was written"
    for command in ((evaluate.main, used), (chat.main, used),
                    (export.main, used, "--to", used.parent / "exported")):  # fmt: skip
        done = typed(*command)
        assert done.code == 1
        assert said in done.err
    assert not (used / "evaluations").exists()
    assert not (used.parent / "exported").exists()
    config = runs.read_config(used, [])
    (used / "adapter").rename(used / "moved")
    whole = runs.load_run(used, config=config, checkpoint="8")
    assert whole.adapter == used / "checkpoint-8" / "adapter"
    with pytest.raises(ValueError, match="moved can't be used: adapter_model"):
        load_adapter(whole.parts.load_base(whole.parts.plan_devices()), used / "moved")


def test_an_adapter_is_whole_or_as_it_was(used, typed, monkeypatch):
    from glm_experiments.tuners.adapters import TunerAdapter

    (used / "results.json").unlink()
    before = contents(used / "adapter")
    save = TunerAdapter.save

    def fail(self, folder, state):
        save(self, folder, state)
        if "checkpoint" not in folder.parent.name:
            (folder / WEIGHTS.name).write_bytes(b"half")
            raise OSError("a network drive that is gone")

    monkeypatch.setattr(TunerAdapter, "save", fail)
    assert typed.train(used, tiny=SHORT).code == 1
    assert contents(used / "adapter") == before
    assert not [each for each in used.iterdir() if each.name.startswith(".adapter")]
    monkeypatch.undo()
    assert typed.train(used, tiny=SHORT).code == 0
    assert contents(used / "adapter") == before


def test_a_former_adapter_is_never_served_as_that_of_a_new_training(used, typed):
    from glm_experiments import runs

    diverges = ("training.learning_rate=1e30", "training.warmup_share=0", "training.save_steps=4")
    done = typed.train(used, *diverges, ANEW, tiny=SHORT)
    assert done.code == 1
    assert read_record(used)["run"]["status"] == "diverged"
    with pytest.raises(ValueError, match="neither an adapter nor a complete checkpoint"):
        runs.find_adapter(used, "last")
    # Nor after a rerun without the checkpoints, which had nothing to continue.
    former = used / "former" / "1"
    for step in (6, 8):
        shutil.rmtree(former / f"checkpoint-{step}")
    (former / "results.json").unlink()
    done = typed.train(former, "training.resume=auto", tiny=SHORT)
    assert done.code == 0
    assert (former / "former" / "1" / "adapter").is_dir()


def test_an_adapter_of_an_older_version_has_no_marker(used):
    from glm_experiments import runs

    (used / "adapter" / "complete.json").unlink()
    assert runs.find_adapter(used, "last") == used / "adapter"
