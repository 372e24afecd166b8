"""glm-evaluate on a run's folder: its own data, other data, each checkpoint, mistakes."""

import io
import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file

from glm_experiments import runs
from glm_experiments.commands import chat, evaluate, export
from tests.running import UNMEASURED, read_losses


def read_evaluation(run_dir):
    """The evaluation that was written last, and its folder."""
    folders = (run_dir / "evaluations").iterdir()
    folder = max(folders, key=lambda each: (each / "evaluation.json").stat().st_mtime_ns)
    return json.loads((folder / "evaluation.json").read_text(encoding="utf-8")), folder


def test_a_run_is_measured_on_its_own_data(typed, run_dir):
    done = typed(evaluate.main, run_dir)
    assert done.code == 0, done.err
    written, folder = read_evaluation(run_dir)
    assert set(written) == {"version", "run", "config", "outcome", "environment"}
    assert written["run"]["status"] == "finished"
    assert written["outcome"]["checkpoint"] == "last"
    metrics = written["outcome"]["metrics"]["after"]
    assert set(metrics) == {"identity", "general", "second_turns"}
    assert written["config"]["data"]["num_validation_rows"] == 4
    assert "exact_match" in done.out
    assert str(folder) in done.out
    rows = (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 12
    assert "answer_after" in json.loads(rows[0])
    assert metrics["identity"]["perplexity"] > 1
    assert (run_dir / "results.json").is_file()


@pytest.fixture
def sums(tmp_path):
    """A file of nine questions."""
    rows = [{"prompt": f"{a}+{a}=?", "response": str(2 * a)} for a in range(1, 10)]
    file = tmp_path / "sums.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("overrides", "num_answers"),
    [
        (["data.path={}"], 9),
        (["data.path=nowhere.json", "data.validation_path={}"], 9),
        (["data.path={}", "data.num_validation_rows=3"], 3),
    ],
)
def test_a_named_file_is_measured_whole(overrides, num_answers, typed, run_dir, sums):
    done = typed(
        evaluate.main,
        *(run_dir, "data=files", *(override.format(sums) for override in overrides)),
        *("evaluation.metrics=[exact_match,bleu4,rouge]", "evaluation.max_new_tokens=4"),
    )
    assert done.code == 0, done.err
    written, folder = read_evaluation(run_dir)
    metrics = written["outcome"]["metrics"]["after"]
    assert set(metrics) == {"validation"}
    assert set(metrics["validation"]) >= {"exact_match", "bleu4", "rouge_l"}
    assert set(written["outcome"]["data"]) == {"read", "dropped", "validation"}
    assert written["outcome"]["data"]["validation"]["rows"] == num_answers
    assert len((folder / "predictions.jsonl").read_text().splitlines()) == num_answers
    assert written["config"]["data"]["prompt_format"] == "chatglm3"


def test_more_rows_than_a_named_file_has_are_refused(typed, run_dir, sums):
    overrides = ["data=files", f"data.path={sums}", "data.num_validation_rows=10"]
    done = typed(evaluate.main, run_dir, *overrides)
    assert done.code == 1
    assert f"data.num_validation_rows=10, but data.path={sums} has 9 usable rows; leave" in done.err


def test_a_failed_evaluation_is_recorded_and_a_mistyped_one_leaves_nothing(typed, run_dir):
    before = set((run_dir / "evaluations").glob("*"))
    assert typed(evaluate.main, run_dir, "data=fils").code == 1
    assert typed(evaluate.main, run_dir, "--checkpoint", "3").code == 1
    assert set((run_dir / "evaluations").glob("*")) == before
    assert typed(evaluate.main, run_dir, "data=files", "data.path=nowhere.json").code == 1
    (folder,) = set((run_dir / "evaluations").glob("*")) - before
    written = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    assert written["run"]["status"] == "failed"
    assert "nowhere.json: there is no such file" in written["run"]["error"]["message"]


def test_general_questions_are_still_answered(typed, run_dir):
    done = typed(
        evaluate.main,
        *(run_dir, "data=general", "data.num_validation_rows=10", "evaluation.max_new_tokens=64"),
    )
    assert done.code == 0, done.err
    written, _ = read_evaluation(run_dir)
    assert written["outcome"]["metrics"]["after"]["general"]["exact_match"] >= 70


def test_each_checkpoint_is_another_state(typed, run_dir):
    perplexities = {}
    for checkpoint in ("2", "4", "best", "last"):
        done = typed(evaluate.main, "--checkpoint", checkpoint, run_dir)
        assert done.code == 0, done.err
        written, _ = read_evaluation(run_dir)
        assert written["outcome"]["checkpoint"] == checkpoint
        metrics = written["outcome"]["metrics"]["after"]
        perplexities[checkpoint] = metrics["identity"]["perplexity"]
    assert perplexities["4"] == perplexities["last"] == perplexities["best"]
    assert perplexities["4"] < perplexities["2"]
    losses = read_losses(run_dir, "validation/identity/loss")
    assert min(losses, key=losses.__getitem__) == 4


@pytest.mark.parametrize("tuner", ["full", "freeze", "lora", "p_tuning_v2"])
def test_what_was_measured_after_training_is_what_was_saved(tuner, typed, tmp_path):
    """Trained in float32 around bfloat16 arithmetic, saved, and loaded in bfloat16."""
    # The CPU computes in bfloat16 slowly.
    data = ("data=identity", "data.num_train_rows=8", "data.num_validation_rows=2")
    done = typed.train(
        tmp_path,
        *(f"tuner={tuner}", "model=tiny_glm", "model.dtype=bfloat16", "training.max_steps=2"),
        *("training.learning_rate=1e-3", "training.batch_size=2", "training.micro_batch_size=2"),
        *("evaluation.before=false", "evaluation.metrics=[perplexity]"),
        *(*data, "tracking=disabled"),
        tiny=(),
    )
    assert done.code == 0, done.err
    assert typed(evaluate.main, tmp_path).code == 0
    written, _ = read_evaluation(tmp_path)
    outcome = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["outcome"]
    assert outcome["metrics"]["after"] == written["outcome"]["metrics"]["after"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--checkpoint", "3"], "has no checkpoint of step 3; type best, last or one of: 2, 4"),
        (["--checkpoint", "bets"], "type best, last or one of: 2, 4"),
        (["experiment=identity"], "experiment=identity is for glm-train; type what is to differ"),
        (["data=genral"], "data=genral is no option of data; type data=general"),
        (["evaluation.batch=3", "seed=x"], "there is no key evaluation.batch; "
         "type evaluation.batch_size\n- seed=x: "),
        (["data.num_validation_rows=0"], "there is nothing to evaluate on"),
        (["data=files", "data.path=nowhere.json"], "nowhere.json"),
    ],
)  # fmt: skip
def test_mistakes_end_with_a_message(arguments, problem, typed, run_dir):
    done = typed(evaluate.main, run_dir, *arguments)
    assert done.code == 1
    assert problem in done.err
    assert "Traceback" not in done.err


def test_what_is_no_run_is_named_with_the_nearest_run(typed, run_dir, tmp_path):
    done = typed(evaluate.main, run_dir.parent)
    assert done.code == 1
    assert f"{run_dir.parent} is no run's folder" in done.err
    assert f"did you mean {run_dir}?" in done.err
    done = typed(evaluate.main, run_dir.parent / "rum")
    assert f"did you mean {run_dir}?" in done.err
    done = typed(evaluate.main, run_dir / "checkpoint-4")
    assert f"did you mean {run_dir}?" in done.err
    failed = tmp_path / "runs" / "failed" / ".hydra"  # younger, but nothing was trained
    shutil.copytree(run_dir, tmp_path / "runs" / "whole")
    failed.mkdir(parents=True)
    (failed / "config.yaml").write_text("name: failed\n")
    done = typed(evaluate.main, tmp_path / "runs")
    assert f"did you mean {tmp_path / 'runs' / 'whole'}?" in done.err
    done = typed(evaluate.main, "--checkpoint", "best")
    assert "type a run's folder, one that glm-export wrote, or e.g. model=tiny_glm" in done.err
    done = typed(evaluate.main, tmp_path / "nothing")
    assert done.code == 1
    assert "type the folder of a run, e.g. outputs/identity/" in done.err


SHORT = ("data=general", "data.num_validation_rows=6", "evaluation.max_new_tokens=8")


def test_a_model_that_is_not_tuned_is_measured_as_before_tuning(typed, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    done = typed(evaluate.main, "model=tiny_chatglm", *SHORT)
    assert done.code == 0, done.err
    written, folder = read_evaluation(tmp_path / "outputs" / "tiny_chatglm-untuned")
    assert str(folder.relative_to(tmp_path)) in done.out
    assert written["run"]["name"] == "tiny_chatglm-untuned"
    assert written["outcome"]["model"] == "package:tiny_chatglm"
    (metrics,) = written["outcome"]["metrics"].values()
    assert set(written["outcome"]["metrics"]) == {"before"}
    assert metrics["general"]["perplexity"] < 2
    assert "answer_before" in (folder / "predictions.jsonl").read_text(encoding="utf-8")
    done = typed(evaluate.main, "model=tiny_chatglm", "data=files")
    assert (done.code, "data.path is not given" in done.err) == (1, True)


@pytest.mark.parametrize("tuner", ["lora", "p_tuning_v2"])
def test_an_exported_folder_is_measured_and_talked_to_as_its_run(
    tuner, typed, run_dir, tmp_path, monkeypatch
):
    """Merged into weights of its own, or an adapter beside a base that lies elsewhere."""
    if tuner == "p_tuning_v2":
        run_dir = tmp_path / "run"
        done = typed.train(run_dir, f"tuner={tuner}", "model=tiny_chatglm", *UNMEASURED)
        assert done.code == 0, done.err
    folder = tmp_path / "export=1"  # is no override
    assert typed(export.main, run_dir, "--to", folder).code == 0
    figures = []
    for subject in (run_dir, folder):
        done = typed(evaluate.main, subject, *SHORT)
        assert done.code == 0, done.err
        written, _ = read_evaluation(subject)
        figures.append(written["outcome"]["metrics"]["after"]["general"])
        assert (
            written["config"]["data"]["prompt_format"]
            == written["config"]["model"]["prompt_format"]
        )
    assert figures[1] == pytest.approx(figures[0], rel=1e-3)
    said = []
    for subject in (run_dir, folder):
        monkeypatch.setattr(sys, "stdin", io.StringIO("12+30=?\n1+1=?\n"))
        done = typed(chat.main, subject, "evaluation.max_new_tokens=8")
        assert done.code == 0, done.err
        said.append(done.out.splitlines()[1:])
    assert said[0] == said[1]
    monkeypatch.setattr(sys, "stdin", io.StringIO("问题" * 1500 + "\n"))
    done = typed(chat.main, folder)
    length = 2048 if tuner == "lora" else 256  # the model's own, or that of a shipped one
    assert f" tokens, and data.context_length={length}; say less" in done.out
    for words, problem in [
        (["model=tiny_glm"], f"- model=tiny_glm: {folder} says it itself; leave it out"),
        (["data.prompt_format=glm4"], f"- data.prompt_format=glm4: {folder} says it itself"),
        (["--checkpoint", "best"], "--checkpoint best: an exported folder has one state"),
    ]:
        done = typed(chat.main, folder, *words)
        assert done.code == 1
        assert problem in done.err
    damaged = next(folder.glob("prompt_format.json"), folder / "adapter.json")
    damaged.write_text("{}", encoding="utf-8")
    done = typed(chat.main, folder)
    assert done.code == 1
    assert f"{damaged} lacks what glm-export writes" in done.err


def test_a_stopped_run_is_used_from_its_last_whole_checkpoint(run_dir, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run_dir, folder)
    shutil.rmtree(folder / "adapter")
    (folder / "checkpoint-4" / "complete.json").unlink()
    assert runs.find_adapter(folder, "last") == folder / "checkpoint-2" / "adapter"
    with pytest.raises(ValueError, match=r"checkpoint-4 can't be used: it was not written to its"):
        runs.find_adapter(folder, "4")
    shutil.rmtree(folder / "checkpoint-2")
    with pytest.raises(ValueError, match="neither an adapter nor a complete checkpoint"):
        runs.find_adapter(folder, "last")
    with pytest.raises(ValueError, match=r"type best, last or one of: 4"):
        runs.find_adapter(folder, "7")


def test_a_run_without_validation_losses_has_no_best(run_dir, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run_dir, folder)
    for file in folder.glob("checkpoint-*/trainer_state.json"):
        state = json.loads(file.read_text(encoding="utf-8"))
        file.write_text(json.dumps({**state, "best_global_step": None}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"no checkpoint is its best; type --checkpoint last"):
        runs.find_adapter(folder, "best")


def test_a_loaded_run_has_what_was_saved(run_dir):
    config = runs.read_config(run_dir, [])
    run = runs.load_run(run_dir, config=config, checkpoint="last")
    saved = load_file(run_dir / "adapter" / "adapter_model.safetensors")
    loaded = {name: each for name, each in run.model.named_parameters() if "lora_" in name}
    assert len(loaded) == len(saved) == 6 * 6 * 2
    for name, value in saved.items():
        start, _, end = name.rpartition(".weight")[0].rpartition(".")
        (match,) = [
            each
            for key, each in loaded.items()
            if start.endswith(key.partition(".lora_")[0]) and end in key
        ]
        assert torch.equal(match, value)
    assert not run.model.training
