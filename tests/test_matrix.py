"""Every tuner on every parallelism on both tiny models, through glm-train, against one device."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from glm_experiments import config, train
from glm_experiments.composing.loader import build_loader, compose

ROOT = Path(__file__).resolve().parents[1]
TUNERS = tuple(config.SCHEMAS["tuner"])
PARALLELISMS: dict[str, tuple[str, ...]] = {
    "single": (),
    "data_parallel": ("parallelism.devices=[cpu,cpu]",),
    "distributed": ("parallelism.num_devices=2",),
    "sharded": ("parallelism.num_devices=2",),
    "model_parallel": ("parallelism.devices=[cpu,cpu]", "parallelism.num_micro_batches=2"),
}
MODELS = ("tiny_glm", "tiny_chatglm")
RUN = (
    *("experiment=identity", "tracking=disabled", "data.num_train_rows=40"),
    *("data.num_validation_rows=4", "evaluation.before=false", "evaluation.after=false"),
    *("training.max_steps=4", "training.save_steps=2"),
    *("training.batch_size=8", "training.micro_batch_size=2", "training.logging_steps=1"),
)
# Dropout draws differ between replicas, so it is off where trajectories are compared.
SETTINGS: dict[str, tuple[str, ...]] = {
    "lora": ("tuner.lora_dropout=0",),
    "p_tuning_v2": ("tuner.num_virtual_tokens=8", "tuner.prefix_dropout=0"),
    "freeze": ("tuner.num_trainable_layers=2", "training.learning_rate=1e-4"),
    "full": ("training.learning_rate=1e-4",),
}


def overrides(tuner: str, parallelism: str, model: str) -> list[str]:
    # experiment=identity is LoRA's; another tuner takes its place, with its own settings.
    run = [each for each in RUN if tuner == "lora" or each != "experiment=identity"]
    if tuner != "lora":
        run += ["data=identity", "data.context_length=128"]
    where = [f"parallelism={parallelism}", *PARALLELISMS[parallelism]]
    return [*run, f"model={model}", f"tuner={tuner}", *where, *SETTINGS[tuner]]


def read_problem(tuner: str, parallelism: str) -> str | None:
    """Why a pairing is refused; None: it works."""
    try:
        config.parse(compose(build_loader(), overrides(tuner, parallelism, "tiny_glm")))
    except ValueError as error:
        return str(error)
    return None


def render_table() -> str:
    """The README's table of what works."""
    lines = [
        "| | " + " | ".join(f"`{name}`" for name in PARALLELISMS) + " |",
        "| --- |" + " --- |" * len(PARALLELISMS),
    ]
    for tuner in TUNERS:
        cells = ["no" if read_problem(tuner, name) else "yes" for name in PARALLELISMS]
        lines.append(f"| `{tuner}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def run_losses(folder: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Training loss of every step of a finished run."""
    monkeypatch.setattr(sys, "argv", ["glm-train", *arguments, f"hydra.run.dir={folder}"])
    GlobalHydra.instance().clear()
    train.main()
    assert json.loads((folder / "results.json").read_text())["run"]["status"] == "finished"
    losses: dict[int, float] = {}
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        values = json.loads(line)
        if "train/loss" in values:
            losses[values["step"]] = values["train/loss"]
    return [losses[step] for step in sorted(losses)]


def test_every_option_is_in_the_matrix() -> None:
    assert set(PARALLELISMS) == set(config.SCHEMAS["parallelism"])
    assert set(SETTINGS) == set(TUNERS)


def test_the_readme_has_the_table_of_what_works() -> None:
    assert render_table() in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def single_losses() -> dict[tuple[str, str], list[float]]:
    """Filled by the first case of each tuner and model."""
    return {}


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("tuner", TUNERS)
@pytest.mark.parametrize("parallelism", [name for name in PARALLELISMS if name != "single"])
def test_a_pairing_trains_as_one_device_does(
    tuner: str,
    parallelism: str,
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    single_losses: dict[tuple[str, str], list[float]],
) -> None:
    if (tuner, model) not in single_losses:
        single_losses[tuner, model] = run_losses(
            tmp_path / "single", overrides(tuner, "single", model), monkeypatch
        )
    expected = single_losses[tuner, model]
    assert len(expected) == 4
    assert expected[-1] != expected[0]
    arguments = overrides(tuner, parallelism, model)
    losses = run_losses(tmp_path / "run", arguments, monkeypatch)
    assert losses == pytest.approx(expected, rel=1e-4)
    if model == "tiny_glm":
        # As if the run had been stopped after step 2.
        shutil.rmtree(tmp_path / "run" / "checkpoint-4")
        for name in ("metrics.jsonl", "results.json"):
            (tmp_path / "run" / name).unlink()
        resumed = run_losses(tmp_path / "run", arguments, monkeypatch)
        assert resumed == pytest.approx(losses[2:], rel=1e-4)
