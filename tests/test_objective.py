"""What a sweeper is given to optimise: one figure of one set, measured after training."""

import importlib
import itertools
import math
import sys
from types import ModuleType

import pytest
from hydra.core.plugins import Plugins

from glm_experiments import train
from glm_experiments.composing.loader import find_plugins
from tests.running import TINY, UNMEASURED, last_of_each, read_record, read_sweep


@pytest.fixture
def optimise(typed, tmp_path, monkeypatch):
    """Runs a sweep under a sweeper that looks at what its jobs return, as those that optimise do;
    returns how it ended and what was seen."""
    seen = []
    find_plugins()
    plugins = Plugins.instance()

    class Watching(plugins.class_name_to_class[train.GRID]):
        __module__, __qualname__ = "hydra_plugins.watching", "Watching"  # all that Hydra takes

        def sweep(self, arguments):
            jobs = super().sweep(arguments)
            seen.extend(job.return_value for job in itertools.chain(*jobs))

    room, module = importlib.import_module("hydra_plugins"), ModuleType("hydra_plugins.watching")
    module.Watching = Watching
    monkeypatch.setattr(room, "watching", module, raising=False)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    plugins.register(Watching)

    def run(*overrides):
        target = "hydra.sweeper._target_=hydra_plugins.watching.Watching"
        sweep = f"hydra.sweep.dir={tmp_path / 'sweep'}"
        return typed(train.main, "-m", *last_of_each(*TINY, *overrides), target, sweep), seen

    return run


def test_it_is_the_loss_of_the_tasks_own_set_after_training(optimise, tmp_path):
    rates = "training.learning_rate=1e-5,2e-3"
    done, seen = optimise(rates, "evaluation.before=false", "training.warmup_share=0")
    assert done.code == 0, done.err
    outcomes = [job["record"]["outcome"] for job in read_sweep(tmp_path / "sweep")]
    for outcome, value in zip(outcomes, seen, strict=True):
        assert outcome["objective"] == {"name": "identity/loss", "value": value}
        after = outcome["metrics"]["after"]["identity"]
        assert value == after["loss"]
        assert math.exp(value) == after["perplexity"]
        assert value != outcome["loss"]  # that of the last step's rows
    assert seen[1] < seen[0]


def test_the_loss_is_measured_where_nothing_else_is(optimise, tmp_path):
    done, seen = optimise(*UNMEASURED, "tuner.r=2,4")
    assert done.code == 0, done.err
    outcomes = [job["record"]["outcome"] for job in read_sweep(tmp_path / "sweep")]
    assert [each["objective"]["value"] for each in outcomes] == seen
    assert all(value > 0 for value in seen)
    assert outcomes[0]["metrics"] == {}


@pytest.mark.parametrize("name", ["general/exact_match", "exact_match"])
def test_it_can_be_a_metric_of_any_set(name, optimise, tmp_path):
    # An untrained wording is answered wrongly, so its score is 0.0: a value like any other.
    done, seen = optimise(f"objective={name}", "tuner.r=2", "evaluation.before=false")
    assert done.code == 0, done.err
    (outcome,) = [job["record"]["outcome"] for job in read_sweep(tmp_path / "sweep")]
    set_name, _, metric = name.rpartition("/")
    assert seen == [outcome["metrics"]["after"][set_name or "identity"][metric]]
    assert outcome["objective"]["name"] == (name if set_name else f"identity/{name}")


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["objective=generl/loss"], "objective=generl/loss: data=identity holds out identity, "
         "general, second_turns, not generl; type objective=identity/loss"),
        (["objective=general/bleu"], "objective=general/bleu: bleu is not of evaluation.metrics; "
         "type objective=general/METRIC with one of loss, exact_match, bleu4, rouge_1, "),
        (["objective=rouge_1", "evaluation.metrics=[perplexity]"], "objective=rouge_1: rouge_1 is "
         "not of evaluation.metrics; type objective=identity/METRIC with one of loss, perplexity"),
        (["objective=exact_match", *UNMEASURED], "objective=exact_match is measured after "
         "training; type evaluation.after=true, or objective=identity/loss"),
        (["objective=loss", *UNMEASURED, "data.num_validation_rows=0"], "there is nothing to "
         "evaluate on: data.num_validation_rows is 0; type e.g. data.num_validation_rows=100, or "
         "objective=null"),
        ([*UNMEASURED, "data.num_validation_rows=0"], "nothing is held out, so there is nothing "
         "that this sweeper could optimise; type e.g. data.num_validation_rows=100"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused_before_it_starts(
    overrides, problem, optimise, tmp_path
):
    done, _ = optimise("tuner.r=2", *overrides)
    assert done.code == 1
    assert problem in done.err
    assert not list(tmp_path.glob("sweep/*/metrics.jsonl"))


def test_a_run_alone_needs_no_objective(typed, tmp_path):
    folder = tmp_path / "run"
    assert typed.train(folder, *UNMEASURED, "data.num_validation_rows=0").code == 0
    assert read_record(folder)["outcome"]["objective"] == {}
    said = (folder / "train.log").read_text(encoding="utf-8")
    assert "nothing is held out, so this run has no objective for a sweeper" in said


def test_answers_to_plain_text_are_no_objective(typed, tmp_path):
    file = tmp_path / "texts.jsonl"
    file.write_text('{"text": "aaa bbb"}\n' * 20, encoding="utf-8")
    data = ("data=files", f"data.path={file}", "data.num_validation_rows=2", "tracking=disabled")
    done = typed.train(tmp_path / "run", *data, "objective=bleu4", tiny=())
    assert done.code == 1
    assert (
        "objective=validation/bleu4: validation is plain text, so nothing is asked and answered"
        in done.err
    )
    assert "model" not in read_record(tmp_path / "run")["environment"]
