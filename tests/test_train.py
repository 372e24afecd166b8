"""glm-train from the command line to the record: whatever a run may come to."""

import contextlib
import json
import math
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.running import (
    TINY,
    UNMEASURED,
    Signal,
    last_of_each,
    read_losses,
    read_record,
    read_sweep,
)
from tests.shared_data import SHARED, needs_shared
from tests.waiting import wait_until

NO_WARMUP = "training.warmup_share=0"
LIKE_FINISHED = ("data.assistant_name=小明", NO_WARMUP, "training.max_steps=3")

# What answers at once: arguments, exit code, and something that is said

ANSWERS = [
    (["--help"], 0, "tuner: freeze, full, lora, lora_linear, p_tuning_v2"),
    (["experiment=identity", "--cfg", "job"], 0, "assistant_name: 小智"),
    (["tuner.rr=4", "tuner=loar"], 1, "- tuner=loar is no option of tuner; type tuner=lora\n"),
    (["--cfg", "job", "tuner.rr=4"], 1, "- there is no key tuner.rr; type tuner.r\n"),
    (
        ["hydra.run.dir=/proc/run"],
        1,
        "No such file or directory: '/proc/run'; type hydra.run.dir=FOLDER ",
    ),
    (["--experiment=identity"], 2, "unrecognized arguments: --experiment=identity"),
    (["-m", "tuner.r=4,-8"], 1, "- tuner.r must be positive, got -8; type e.g. tuner.r=1"),
]
TYPE_ALL = """
import contextlib, io, json, runpy, sys

done = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["glm-train", *arguments]
    said, code = io.StringIO(), 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            runpy.run_module("glm_experiments.train", run_name="__main__")
        except SystemExit as stop:
            code = stop.code or 0
    slow = [each for each in ("torch", "transformers", "peft") if each in sys.modules]
    done.append((code, said.getvalue(), slow))
print(json.dumps(done))
"""


@pytest.fixture(scope="module")
def answered():
    """All of ANSWERS typed in one process that starts without torch: (code, words, imports)."""
    arguments = json.dumps([each for each, _, _ in ANSWERS])
    done = subprocess.run(
        [sys.executable, "-c", TYPE_ALL, arguments], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("index", range(len(ANSWERS)), ids=lambda each: " ".join(ANSWERS[each][0]))
def test_help_config_and_mistakes_answer_without_torch(index, answered):
    _, code, text = ANSWERS[index]
    returned, said, slow_imports = answered[index]
    assert returned == code
    assert text.strip() in said
    assert "Traceback" not in said
    assert slow_imports == []


def test_help_lists_what_can_be_typed_and_nothing_else(typed):
    from glm_experiments import train

    done = typed(train.main, "--help", "tuner=full", "seed=7")
    assert done.code == 0
    listed, _, shown = done.out.partition("== The config")
    assert "schema" not in listed
    groups = [line.partition(": ")[0] for line in listed.splitlines() if ": " in line]
    assert groups[2:] == [  # the first two lines are headings
        *("data", "evaluation", "experiment", "model", "parallelism", "sweep"),
        *("tracking", "training", "tuner"),
    ]
    assert "\nseed: 7\n" in shown
    assert "tuner:\n  name: full\n" in shown
    assert "hydra:" not in shown
    done = typed(train.main, "--help", "tuner=ful")
    assert (done.code, done.err) == (
        1,
        "glm-train: - tuner=ful is no option of tuner; type tuner=full\n",
    )


# One run and its folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory, typed_once):
    """A short measured run."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert typed_once.train(folder, *LIKE_FINISHED).code == 0
    return folder


def test_a_finished_run_is_recorded(finished):
    record = read_record(finished)
    assert set(record) == {"version", "run", "config", "outcome", "environment"}
    run, outcome = record["run"], record["outcome"]
    assert (run["name"], run["status"], run["error"]) == ("identity", "finished", None)
    assert run["duration_seconds"] > 0
    assert "data.assistant_name='小明'" in run["overrides"]
    assert record["config"]["data"]["assistant_name"] == "小明"
    assert record["config"]["training"]["max_steps"] == 3
    assert record["config"]["training"]["num_train_epochs"] == 1  # two steps, which they override
    assert outcome["steps"] == 3
    assert outcome["loss"] == read_losses(finished)[3]
    for when in ("before", "after"):
        assert set(outcome["metrics"][when]) == {"identity", "general", "second_turns"}
        for metrics in outcome["metrics"][when].values():
            assert 0 <= metrics["exact_match"] <= 100
            assert metrics["perplexity"] > 1
    before, after = (outcome["metrics"][when]["identity"] for when in ("before", "after"))
    assert after["perplexity"] < before["perplexity"]
    # r * (in + out) of q, k, v, o, gate_up and down, in six layers
    per_layer = 8 * (4 * 192 + 2 * (192 + 64) + 192 + 1280 + 640 + 192)
    assert outcome["trainable_parameters"] == 6 * per_layer
    assert outcome["total_parameters"] > 3_000_000
    assert outcome["tokens_per_second"] > 0
    card = finished / "adapter" / "README.md"
    files = {each for each in (finished / "adapter").iterdir() if each.is_file()} - {card}
    assert outcome["adapter_bytes"] == sum(each.stat().st_size for each in files)
    assert record["environment"]["data"]["fingerprint"]
    assert record["environment"]["model"]["path"] == "package:tiny_glm"


def test_the_adapter_has_a_model_card(finished):
    card = (finished / "adapter" / "README.md").read_text(encoding="utf-8")
    record = read_record(finished)
    assert card.startswith("---\nlibrary_name: peft\n")
    assert "base: `package:tiny_glm`, in float32" in card
    assert "tuner: `lora`: dtype=float32, r=8, " in card
    assert record["environment"]["data"]["fingerprint"] in card
    for name in ("identity", "general"):
        for metric in ("exact_match", "perplexity"):
            pair = [
                record["outcome"]["metrics"][when][name][metric] for when in ("before", "after")
            ]
            assert f"| {name} | {metric} | {pair[0]:.2f} | {pair[1]:.2f} |" in card
    assert 'load_adapter(load_model("package:tiny_glm"), "FOLDER")' in card
    assert 'AutoPeftModelForCausalLM.from_pretrained("FOLDER")' in card
    config = json.loads((finished / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert (Path(config["base_model_name_or_path"]) / "model.safetensors").is_file()
    described = json.loads((finished / "adapter" / "adapter.json").read_text(encoding="utf-8"))
    assert described["base"]["name"] == "package:tiny_glm"


def test_each_stage_has_its_own_peak_memory(finished):
    """Neither what answers nor what measures a loss counts as the training's."""
    outcome = read_record(finished)["outcome"]
    stages = outcome["stage_peak_memory_bytes"]
    assert set(stages) == {"training", "generation", "evaluation"}
    assert outcome["peak_memory_bytes"] == stages["training"]
    assert all(peaks["cpu"] > 2**20 for peaks in stages.values())


def test_a_run_leaves_its_files(finished):
    left = {path.name for path in finished.iterdir()}
    assert left >= {".hydra", "train.log", "metrics.jsonl", "predictions.jsonl", "adapter"}
    assert left >= {"results.json", "checkpoint-3"}
    rows = (finished / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 12
    assert {"question", "reference", "answer_before", "answer_after"} <= set(json.loads(rows[0]))
    text = (finished / "train.log").read_text(encoding="utf-8")
    assert "identity" in text
    assert "exact_match" in text
    assert "trained" in text  # two samples, token by token
    assert "masked" in text
    first, last = re.findall(r"step [13]/3: loss .*", text)
    assert "left" not in first  # one step tells nothing of the next
    assert last.endswith(", 00:00 left")


def test_a_finished_training_is_not_trained_again(finished, typed, tmp_path):
    """One that was killed while it was measured."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / "results.json").unlink()
    state = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert typed.train(folder, *LIKE_FINISHED).code == 0
    outcome = read_record(folder)["outcome"]
    assert outcome["steps"] == 3
    for kept in ("loss", "tokens"):
        assert outcome[kept] == read_record(finished)["outcome"][kept]
    again = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert all(torch.equal(again[name], value) for name, value in state.items())


def test_a_changed_setting_is_not_continued(finished, typed, tmp_path):
    from glm_experiments import runs

    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    done = typed.train(folder, *LIKE_FINISHED, "training.learning_rate=1e-3")
    assert done.code == 1
    assert "training.learning_rate was 0.002, now 0.001; type the former values" in done.err
    # The run that it would not continue is left as it was, for the other commands too.
    assert read_record(folder) == read_record(finished)
    assert runs.read_config(folder, []).training.learning_rate == 0.002
    again = [*LIKE_FINISHED, "training.learning_rate=1e-3", "training.resume=never"]
    assert typed.train(folder, *again).code == 0
    assert read_record(folder)["run"]["status"] == "finished"


def test_a_dtype_that_is_left_open_is_resolved_recorded_and_compared(typed, tmp_path):
    from glm_experiments import runs

    folder = tmp_path / "run"
    short = (*UNMEASURED, "training.max_steps=1")  # the CPU computes in bfloat16 slowly
    assert typed.train(folder, "model.dtype=auto", *short).code == 0
    assert read_record(folder)["config"]["model"]["dtype"] == "auto"
    assert read_record(folder)["environment"]["model"]["dtype"] == "bfloat16"
    said = (folder / "train.log").read_text(encoding="utf-8")
    assert "model.dtype=auto is bfloat16 on cpu" in said
    assert runs.read_config(folder, []).model.dtype == "bfloat16"  # whatever answers later
    assert runs.read_config(folder, ["model.dtype=float32"]).model.dtype == "float32"
    assert typed.train(folder, "model.dtype=bfloat16", *short).code == 0
    done = typed.train(folder, "model.dtype=float32", *short)
    assert done.code == 1
    assert "model.dtype was bfloat16, now float32" in done.err


# One loss trajectory


def test_the_same_seed_gives_the_same_losses(finished, typed, tmp_path):
    overrides = [*LIKE_FINISHED, *UNMEASURED]
    assert typed.train(tmp_path / "same", *overrides).code == 0
    assert read_losses(tmp_path / "same") == read_losses(finished)
    assert typed.train(tmp_path / "other", *overrides, "seed=1").code == 0
    assert read_losses(tmp_path / "other")[1] != read_losses(finished)[1]


@pytest.mark.parametrize("tuner", ["lora", pytest.param("p_tuning_v2", marks=pytest.mark.slow)])
def test_batches_of_one_size_give_one_trajectory(tuner, typed, tmp_path):
    ways = {
        "at once": ["training.micro_batch_size=8"],
        "accumulated": ["training.micro_batch_size=1"],
        "recomputed": ["training.micro_batch_size=4", "training.activation_checkpointing=true"],
    }
    losses = []
    for name, way in ways.items():
        done = typed.train(
            tmp_path / name,
            *(f"tuner={tuner}", NO_WARMUP, "training.batch_size=8"),
            *("tuner.prefix_dropout=0" if tuner == "p_tuning_v2" else "tuner.lora_dropout=0",),
            *(*way, *UNMEASURED),
        )
        assert done.code == 0, done.err
        losses.append(list(read_losses(tmp_path / name).values()))
    assert len(losses[0]) == 2
    assert losses[0][1] != losses[0][0]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[2] == pytest.approx(losses[0], rel=1e-4)


def test_packed_rows_give_the_loss_of_padded_ones(typed, tmp_path):
    # All rows are in every step, so both ways see the same labels.
    batch = ["data.num_train_rows=8", "training.batch_size=8"]
    for packing in ("true", "false"):
        way = [f"data.packing={packing}", NO_WARMUP, *batch, *UNMEASURED]
        assert typed.train(tmp_path / packing, *way).code == 0
    packed, padded = (list(read_losses(tmp_path / each).values()) for each in ("true", "false"))
    assert packed == pytest.approx(padded, rel=1e-4)
    assert padded[1] < padded[0]


@pytest.mark.parametrize("tuner", ["lora", "p_tuning_v2", "freeze", "full"])
def test_exactly_the_tuners_parameters_move(tuner, typed, tmp_path, monkeypatch):
    from glm_experiments.assembly import Assembly

    seen = []
    tune = Assembly.tune

    def watch(self, model):
        trainable = tune(self, model)
        parameters = trainable.model.named_parameters()
        start = {name: each.detach().clone() for name, each in parameters}
        seen.append((trainable.model, start))
        return trainable

    monkeypatch.setattr(Assembly, "tune", watch)
    done = typed.train(tmp_path / "run", f"tuner={tuner}", NO_WARMUP, *UNMEASURED)
    assert done.code == 0, done.err
    ((model, start),) = seen
    moved = {name for name, each in model.named_parameters() if not torch.equal(each, start[name])}
    trainable = {name for name, each in model.named_parameters() if each.requires_grad}
    assert moved == trainable
    word = {"lora": "lora_", "p_tuning_v2": "prefix", "freeze": "layers.", "full": ""}[tuner]
    assert all(word in name for name in moved)
    if tuner == "freeze":
        assert {name.split("layers.")[1].partition(".")[0] for name in moved} == {"3", "4", "5"}
    if tuner == "full":
        assert moved == set(start)


# Stopped and continued

LONG = (
    *("tuner.lora_dropout=0.1", "training.max_steps=10", "training.save_steps=4"),
    *("training.batch_size=2", "training.micro_batch_size=1", *UNMEASURED),
)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, typed_once):
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    assert typed_once.train(folder, *LONG).code == 0
    return folder


@pytest.mark.parametrize(
    ("signum", "code"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_continues_as_if_it_had_not(signum, code, typed, tmp_path, unbroken):
    folder = tmp_path / "run"
    with Signal(signum, folder=folder, num_steps=3):
        done = typed.train(folder, *LONG)
    assert done.code == code
    assert done.err.endswith("glm-train: interrupted\n")
    record = read_record(folder)
    assert record["run"]["status"] == "interrupted"
    assert record["run"]["error"]["message"] == signum.name
    assert signal.getsignal(signum) in (signal.default_int_handler, signal.SIG_DFL)
    stopped_at = max(read_losses(folder))
    assert 3 <= stopped_at < 8
    last = folder / f"checkpoint-{stopped_at}"
    assert (last / "complete.json").is_file()

    # Younger, but not whole: one that was being written, one whose file was cut.
    shutil.copytree(last, folder / "checkpoint-8")
    (folder / "checkpoint-8" / "complete.json").unlink()
    shutil.copytree(last, folder / "checkpoint-9")
    (folder / "checkpoint-9" / "optimizer.pt").write_bytes(b"PK")
    assert typed.train(folder, *LONG).code == 0
    text = (folder / "train.log").read_text(encoding="utf-8")
    assert f"{folder / 'checkpoint-8'} is passed over: it was not written to its end" in text
    assert "checkpoint-9 is passed over: optimizer.pt is not as it was written" in text
    assert f"continuing {last}" in text
    assert read_losses(folder) == read_losses(unbroken)
    record = read_record(folder)
    assert (record["run"]["status"], record["outcome"]["steps"]) == ("finished", 10)
    assert record["outcome"]["tokens"] == read_record(unbroken)["outcome"]["tokens"] > 0
    name = Path("adapter", "adapter_model.safetensors")
    ours, theirs = load_file(folder / name), load_file(unbroken / name)
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())


def test_old_checkpoints_make_room(unbroken):
    assert sorted(each.name for each in unbroken.glob("checkpoint-*")) == [
        "checkpoint-10",
        "checkpoint-8",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_process_that_is_stopped_exits_as_a_shell_expects(signum, code, tmp_path, warm):
    folder = tmp_path / "run"
    endless = last_of_each(*TINY, *UNMEASURED, "training.max_steps=2000")
    child = warm.start(*endless, f"hydra.run.dir={folder}")
    wait_until((folder / "metrics.jsonl").is_file, what="the first step is logged")
    child.send(signum)
    ended = child.wait()
    assert ended.code == code
    assert "Traceback" not in ended.err
    assert read_record(folder)["run"]["status"] == "interrupted"
    (checkpoint,) = folder.glob("checkpoint-*")
    assert (checkpoint / "complete.json").is_file()


@pytest.mark.slow
def test_a_run_whose_terminal_is_closed_is_recorded_and_keeps_a_checkpoint(tmp_path):
    folder = tmp_path / "run"
    endless = last_of_each(*TINY, *UNMEASURED, "training.max_steps=2000")
    words = [*endless, f"hydra.run.dir={folder}"]
    process, terminal = pty.fork()
    if process == 0:
        os.execv(sys.executable, [sys.executable, "-m", "glm_experiments.train", *words])
    os.set_blocking(terminal, False)

    def has_logged():
        with contextlib.suppress(BlockingIOError):
            os.read(terminal, 1 << 16)  # what it shows, so that it doesn't wait for a reader
        return (folder / "metrics.jsonl").is_file()

    wait_until(has_logged, what="the first step is logged")
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 129
    record = read_record(folder)["run"]
    assert (record["status"], record["error"]["message"]) == ("interrupted", "SIGHUP")
    (checkpoint,) = folder.glob("checkpoint-*")
    assert (checkpoint / "complete.json").is_file()


def test_a_run_stopped_before_training_is_recorded(typed, tmp_path, monkeypatch):
    from glm_experiments.assembly import Assembly

    def stop(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Assembly, "evaluate_base", stop)
    done = typed.train(tmp_path / "run")
    assert done.code == 143
    assert read_record(tmp_path / "run")["run"]["status"] == "interrupted"
    assert not list((tmp_path / "run").glob("checkpoint-*"))


# Ended otherwise


def test_early_stopping_keeps_the_best_and_is_an_end(typed, tmp_path, caplog):
    folder = tmp_path / "run"
    command = [
        *("training.max_steps=20", "training.eval_steps=1", "training.early_stopping_patience=2"),
        *(NO_WARMUP, "training.learning_rate=3e-2", "training.save_total_limit=1", *UNMEASURED),
    ]
    for _ in ("first", "again"):
        done = typed.train(folder, *command)
        assert done.code == 0, done.err
        validation = read_losses(folder, "validation/identity/loss")
        outcome = read_record(folder)["outcome"]
        best = min(validation, key=validation.__getitem__)
        assert outcome["steps"] == max(validation) == best + 2 < 20
        assert outcome["best_step"] == best
        assert outcome["best_validation_loss"] == validation[best]
        assert outcome["best_validation_set"] == "identity"
        kept, best_file = (
            load_file(each / "adapter" / "adapter_model.safetensors")
            for each in (folder, folder / f"checkpoint-{best}")
        )
        assert all(torch.equal(kept[key], value) for key, value in best_file.items())
    assert "load_best_model_at_end" not in caplog.text + done.out + done.err


def test_every_validation_set_has_its_own_loss_and_the_task_decides(typed, tmp_path):
    """What is learned decides, whatever else is measured beside it."""
    folder = tmp_path / "run"
    done = typed.train(
        folder,
        *("training.max_steps=6", "training.eval_steps=1", "training.early_stopping_patience=1"),
        *(NO_WARMUP, "data.replay_share=0", "data.num_validation_rows=8"),
        *("training.learning_rate=4e-3", "evaluation.num_rows=2", "evaluation.before=false"),
    )
    assert done.code == 0, done.err
    sets = ("identity", "general", "second_turns")
    own, other, second = (read_losses(folder, f"validation/{name}/loss") for name in sets)
    assert list(own) == list(other) == list(second) == [1, 2, 3, 4, 5, 6]
    assert own[6] < own[1]
    outcome = read_record(folder)["outcome"]
    assert (outcome["best_step"], outcome["best_validation_set"]) == (6, "identity")
    assert outcome["best_validation_loss"] == own[6]
    losses = {
        name: {"loss": each[6]} for name, each in zip(sets, (own, other, second), strict=True)
    }
    assert outcome["validation"] == losses
    text = (folder / "train.log").read_text(encoding="utf-8")
    assert f"step 6/6: identity loss {own[6]:.4g}, general loss {other[6]:.4g}, " in text
    after = outcome["metrics"]["after"]
    assert after["identity"]["perplexity"] == pytest.approx(math.exp(own[6]))
    assert after["general"]["perplexity"] == pytest.approx(math.exp(other[6]))


def test_a_run_that_diverges_is_recorded(typed, tmp_path):
    done = typed.train(
        tmp_path / "run", "training.learning_rate=1e30", NO_WARMUP, "training.max_steps=3"
    )
    assert done.code == 1
    assert "training.learning_rate=1e+29" in done.err
    assert "Traceback" not in done.err
    record = read_record(tmp_path / "run")
    assert record["run"]["status"] == "diverged"
    assert record["run"]["error"]["type"] == "Diverged"
    assert "before" in record["outcome"]["metrics"]
    assert not list((tmp_path / "run").glob("checkpoint-*"))
    assert not (tmp_path / "run" / "adapter").exists()


@pytest.mark.parametrize(
    ("content", "overrides", "problem"),
    [
        (None, [], "rows.jsonl"),
        ("", [], "rows.jsonl"),
        ('{"prompt": "a", "response": "b"}\n{"prompt": "a"\n', ["data.on_bad_row=error"], "line 2"),
        ('{"prompt": "a", "response": "b"}\n' * 3, ["data.num_validation_rows=9"],
         "data.num_validation_rows"),
        ('{"prompt": "a", "response": "b"}\n' * 9, ["data.prompt_column=promt"], "promt"),
    ],
)  # fmt: skip
def test_bad_data_end_the_run_before_a_model_is_loaded(
    content, overrides, problem, typed, tmp_path
):
    file = tmp_path / "rows.jsonl"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    done = typed.train(
        tmp_path / "run",
        *("data=files", f"data.path={file}", "data.num_validation_rows=2", "tracking=disabled"),
        *overrides,
        tiny=(),
    )
    assert done.code == 1
    assert problem in done.err
    assert "Traceback" not in done.err
    record = read_record(tmp_path / "run")
    assert record["run"]["status"] == "failed"
    assert record["run"]["error"]["type"] in ("ValueError", "FileNotFoundError")
    assert "model" not in record["environment"]
    message = record["run"]["error"]["message"]
    assert (done.out + done.err).count(message) == 1  # said once on the terminal, and in the log
    assert message in (tmp_path / "run" / "train.log").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("+training.extra.optim=adamw_trch", "training.extra.optim can't be adamw_trch; type "
         "+training.extra.optim=adamw_torch"),
        ("tuner.target_modules=[nothing]", "nothing"),
        ("model.path=/nowhere/glm", "/nowhere/glm"),
        ("training.resume=/nowhere/checkpoint-5", "training.resume=/nowhere/checkpoint-5 can't be "
         "continued: there is no such folder"),
        ("parallelism.device=cuda:7", "cuda:7"),
        ("model.dtype=float16", "model.dtype=float32"),
        ("data.context_length=100000", "data.context_length=100000, but package:tiny_glm was made "
         "for at most 2048 tokens; type data.context_length=2048, or a model for longer contexts"),
    ],
)  # fmt: skip
def test_what_only_the_run_can_know_ends_it_with_a_message(override, problem, typed, tmp_path):
    done = typed.train(tmp_path / "run", override, *UNMEASURED)
    assert done.code == 1
    assert problem in done.err
    assert "Traceback" not in done.err
    record = read_record(tmp_path / "run")
    assert record["run"]["status"] == "failed"
    assert "steps" not in record["outcome"]
    early = ("extra", "resume", "float16", "cuda", "nowhere", "context")
    if any(word in override for word in early):  # before a model is loaded
        assert "model" not in record["environment"]


# Sweeps


def test_a_sweep_makes_a_folder_and_a_record_a_job(typed, tmp_path):
    from glm_experiments import train

    sweep = f"hydra.sweep.dir={tmp_path / 'sweep'}"
    done = typed(train.main, "-m", *TINY, *UNMEASURED, "tuner.r=2,4", sweep)
    assert done.code == 0, done.err
    records = [job["record"] for job in read_sweep(tmp_path / "sweep")]
    assert [each["config"]["tuner"]["r"] for each in records] == [2, 4]
    assert [each["run"]["status"] for each in records] == ["finished", "finished"]
    sizes = [each["outcome"]["trainable_parameters"] for each in records]
    assert sizes[1] == 2 * sizes[0]


def test_a_failed_job_leaves_the_others_alone(finished, typed, tmp_path):
    from glm_experiments import train

    sweep = f"hydra.sweep.dir={tmp_path / 'sweep'}"
    done = typed(
        train.main,
        *("-m", *last_of_each(*TINY, *LIKE_FINISHED, *UNMEASURED)),
        *("training.learning_rate=1e30,2e-3", sweep),
    )
    assert done.code == 1
    assert "1 of 2 jobs did not finish (1 diverged)" in done.err
    assert "- learning_rate_1e+30-" in done.err
    jobs = read_sweep(tmp_path / "sweep")
    assert [job["status"] for job in jobs] == ["diverged", "finished"]
    assert [job["record"]["run"]["status"] for job in jobs] == ["diverged", "finished"]
    assert read_losses(Path(jobs[1]["folder"])) == read_losses(finished)


def test_a_sweep_with_a_bad_value_starts_no_job(typed, tmp_path):
    from glm_experiments import train

    done = typed(train.main, "-m", *TINY, "tuner.r=4,-8", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert done.code == 1
    assert done.err == (
        "glm-train: - tuner.r must be positive, got -8; type e.g. tuner.r=1 (in tuner.r=-8)\n"
    )
    assert not (tmp_path / "sweep").exists()


# Real data


@needs_shared
@pytest.mark.parametrize(
    ("data", "file"), [("adgen", "adgen_dev.jsonl"), ("alpaca", "alpaca_zh.json")]
)
def test_real_data_train_and_are_measured(data, file, typed, tmp_path):
    done = typed.train(
        tmp_path / "run",
        *(f"data={data}", f"data.path={SHARED / 'data' / file}", "model=tiny_glm"),
        *("data.num_train_rows=200", "data.num_validation_rows=4", "data.max_bad_share=0.05"),
        *("training.max_steps=2", "training.batch_size=4"),
        *("evaluation.max_new_tokens=16", "tracking=disabled"),
        tiny=(),
    )
    assert done.code == 0, done.err
    outcome = read_record(tmp_path / "run")["outcome"]
    for when in ("before", "after"):
        metrics = outcome["metrics"][when]["validation"]
        assert set(metrics) >= {"bleu4", "rouge_1", "rouge_2", "rouge_l", "perplexity"}
        assert all(0 <= metrics[each] <= 100 for each in ("bleu4", "rouge_1", "rouge_2", "rouge_l"))
    assert outcome["steps"] == 2
    assert outcome["data"]


def test_a_config_that_cannot_be_run_leaves_no_folder(typed, tmp_path):
    problem = (
        "training.batch_size=10 is not a multiple of training.micro_batch_size=4; "
        "type e.g. training.batch_size=8"
    )
    wrong = ("training.batch_size=10", "training.micro_batch_size=4")
    done = typed.train(tmp_path / "run", *wrong)
    assert (done.code, done.err) == (1, f"glm-train: - {problem}\n")
    done = typed.train(tmp_path / "run", *wrong, "tuner.rr=1")
    assert done.code == 1
    assert problem in done.err
    assert not (tmp_path / "run").exists()

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "results.json").write_text("of another run")
    assert typed.train(tmp_path / "run", *wrong).code == 1
    assert (tmp_path / "run" / "results.json").read_text() == "of another run"


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["tuner.target_modules=[q_prj]"], "q_prj names no linear module of GlmForCausalLM"),
        (
            ["tuner=freeze", "tuner.num_trainable_layers=9"],
            "num_trainable_layers=9, but the model has 6 layers",
        ),
    ],
)
def test_a_tuner_that_does_not_fit_is_refused_before_the_model_loads(
    overrides, problem, typed, tmp_path
):
    tiny = TINY if overrides[0] != "tuner=freeze" else ("data=identity", *TINY[1:])
    done = typed.train(tmp_path, *overrides, tiny=tiny)
    assert done.code == 1
    assert problem in done.err
    assert "model" not in read_record(tmp_path)["environment"]
