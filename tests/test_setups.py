"""The named set-ups: each composes for its full-size model and trains a tiny one on the CPU."""

import json
from pathlib import Path

import pytest

from glm_experiments import config, experiment
from glm_experiments.composing.loader import build_loader, compose
from glm_experiments.parallelism import model_parallel
from glm_experiments.record.errors import RunFailed

CONF = Path(__file__).resolve().parents[1] / "conf" / "experiment"
TINY = {"chatglm_6b": "tiny_chatglm", "chatglm2_6b": "tiny_glm"}
SHORT = (
    "training.max_steps=2",
    "training.logging_steps=1",
    "data.num_train_rows=400",
    "data.context_length=128",
    "data.num_validation_rows=2",
    "evaluation.max_new_tokens=4",
    "tracking=disabled",
)
QUICK = ("adgen_p_tuning_v2", "chatglm2_lora", "p_tuning_v2_model_parallel")
# Set-ups are the experiments that say which card they need.
SET_UPS = sorted(path.stem for path in CONF.glob("*.yaml") if "GiB" in path.read_text())


def parse(*overrides):
    config.register_schemas()
    return config.parse(compose(build_loader(), list(overrides)))


def test_the_set_ups_are_found():
    assert SET_UPS == [
        "adgen_p_tuning_v2",
        "chatglm2_lora",
        "lora_data_parallel",
        "lora_model_parallel",
        "lora_single_16gb",
        "lora_single_24gb",
        "p_tuning_v2_model_parallel",
    ]


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in SET_UPS],
)
def test_a_set_up_trains_a_tiny_model(name, tmp_path):
    overrides = [f"experiment={name}", *SHORT]
    full = parse(*overrides, "data=general")
    overrides.append(f"model={TINY[full.model.name]}")
    if full.parallelism.name == "single":
        overrides.append("parallelism.device=cpu")
    else:
        overrides.append("parallelism.devices=[cpu,cpu]")
    if name == "adgen_p_tuning_v2":
        for file, num_rows in (("train", 20), ("dev", 2)):
            row = json.dumps({"content": "类型#裤", "summary": "宽松的裤子"}, ensure_ascii=False)
            (tmp_path / f"{file}.json").write_text("\n".join([row] * num_rows), encoding="utf-8")
        overrides += [
            f"data.path={tmp_path / 'train.json'}",
            f"data.validation_path={tmp_path / 'dev.json'}",
        ]
    parsed = parse(*overrides)
    folder = tmp_path / "run"
    folder.mkdir()
    experiment.run(parsed, folder, checkpoint=None, overrides=overrides, sweep=None, swept_keys=[])
    record = json.loads((folder / "results.json").read_text())
    assert record["run"]["status"] == "finished"
    assert record["outcome"]["steps"] == 2
    assert record["outcome"]["trainable_parameters"] > 0
    if full.parallelism.name == "model_parallel":
        split = record["outcome"]["split"]
        assert [stage["device"] for stage in split["stages"]] == ["cpu", "cpu"]
        assert [stage["first"] for stage in split["stages"]] == [0, 3]
        assert split["expected_utilisation"] == 0.8
        assert split["expected_peak_memory_bytes"]["cpu"] > 2**20


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["parallelism.devices=[cpu,cpu,cpu,cpu,cpu,cpu,cpu]"], "has 7 devices, but the model has"),
        (["parallelism.devices=[cpu,cuda:99]"], r"parallelism\.devices has cuda:99, but"),
        (
            ["parallelism.devices=[cpu,cpu]", "model.attn_implementation=flex_attention"],
            "flex_attention; type model.attn_implementation=sdpa",
        ),
    ],
)
def test_an_impossible_split_is_refused_before_loading(overrides, problem, tmp_path):
    parsed = parse("parallelism=model_parallel", *SHORT, "data.num_validation_rows=4", *overrides)
    with pytest.raises(RunFailed, match=problem):
        experiment.run(parsed, tmp_path, checkpoint=None, overrides=[], sweep=None, swept_keys=[])
    record = json.loads((tmp_path / "results.json").read_text())
    assert record["run"]["status"] == "failed"
    assert "model" not in record["environment"]


def test_a_model_that_does_not_fit_is_refused_before_loading(tmp_path, monkeypatch):
    monkeypatch.setattr(model_parallel, "measure_free_memory", lambda _: {"cpu": 2**20})
    parsed = parse("parallelism=model_parallel", "parallelism.devices=[cpu,cpu]", *SHORT)
    with pytest.raises(RunFailed, match=r"does not fit the free memory of parallelism\.devices"):
        experiment.run(parsed, tmp_path, checkpoint=None, overrides=[], sweep=None, swept_keys=[])
    record = json.loads((tmp_path / "results.json").read_text())
    assert "model" not in record["environment"]
