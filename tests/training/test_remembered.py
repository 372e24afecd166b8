"""A run that goes on from a checkpoint is the one that was stopped: its curve, its random draws."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from glm_experiments.training import remembered
from glm_experiments.training.remembered import restore_device_states, save_device_states
from tests.running import UNMEASURED, Typed, read_losses

SPARSE = (
    *("training.max_steps=12", "training.logging_steps=5", "training.save_steps=3"),
    *("training.save_total_limit=null", "training.batch_size=2", "training.micro_batch_size=1"),
    *("training.eval_steps=4", "data.num_validation_rows=2", *UNMEASURED),
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, typed_once: Typed) -> Path:
    """A run on one device, as a folder that is to be copied."""
    folder = tmp_path_factory.mktemp("undisturbed") / "whole"
    assert typed_once.train(folder, *SPARSE).code == 0
    return folder


def cut_after(step: int, whole: Path, folder: Path) -> None:
    """The folder of a run as it was when it was killed after a step."""
    shutil.copytree(whole, folder)
    for path in folder.glob("checkpoint-*"):
        if int(path.name.partition("-")[2]) > step:
            shutil.rmtree(path)
    shutil.rmtree(folder / "adapter")
    (folder / "results.json").unlink()
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["step"] <= step]
    (folder / "metrics.jsonl").write_text("".join(kept))


def check_resumed(typed: Typed, whole: Path, folder: Path, *, step: int, more: list[str]) -> None:
    """See that a run that goes on after a step has the curve of the undisturbed one."""
    losses = read_losses(whole)
    assert sorted(losses) == [1, 5, 10, 12]
    cut_after(step, whole, folder)
    assert typed.train(folder, *SPARSE, *more).code == 0
    assert f"continuing {folder / f'checkpoint-{step}'}" in (folder / "train.log").read_text()
    assert read_losses(folder) == losses
    for key in ("train/grad_norm", "validation/identity/loss"):
        curve = read_losses(whole, key)
        assert curve
        assert read_losses(folder, key) == curve


@pytest.mark.parametrize("step", [3, 9])
def test_the_curve_of_a_resumed_run_is_the_undisturbed_one(
    step: int, typed: Typed, undisturbed: Path, tmp_path: Path
) -> None:
    check_resumed(typed, undisturbed, tmp_path / "run", step=step, more=[])


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize(
    "parallelism",
    [
        "model_parallel parallelism.devices=[cpu,cpu]",
        pytest.param("distributed parallelism.num_devices=2", marks=pytest.mark.slow),
    ],
)
def test_so_is_the_curve_of_one_on_several_devices(
    parallelism: str, typed: Typed, tmp_path: Path
) -> None:
    more = f"parallelism={parallelism}".split()
    assert typed.train(tmp_path / "whole", *SPARSE, *more).code == 0
    for step in (3, 9):
        folder = tmp_path / f"from {step}"
        check_resumed(typed, tmp_path / "whole", folder, step=step, more=more)


def test_a_checkpoint_that_remembers_no_loss_begins_to_count(
    typed: Typed, undisturbed: Path, tmp_path: Path
) -> None:
    cut_after(3, undisturbed, tmp_path / "old")
    checkpoint = tmp_path / "old" / "checkpoint-3"
    marker = json.loads((checkpoint / "complete.json").read_text())
    del marker["files"]["unlogged_loss.json"]
    (checkpoint / "complete.json").write_text(json.dumps(marker))
    (checkpoint / "unlogged_loss.json").unlink()
    assert typed.train(tmp_path / "old", *SPARSE).code == 0
    old, whole = read_losses(tmp_path / "old"), read_losses(undisturbed)
    assert 0.3 * whole[5] < old[5] < 3 * whole[5]  # a mean of two steps, not a fifth of it
    assert {step: old[step] for step in (10, 12)} == {step: whole[step] for step in (10, 12)}


def test_every_device_s_random_state_is_kept(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By structure: two devices that are none."""
    states = [torch.arange(16, dtype=torch.uint8), torch.arange(16, 32, dtype=torch.uint8)]
    restored: list[Any] = []

    def in_turn(function: Any) -> Any:
        """`function` where it alone is told of devices."""

        def call(folder: Path) -> None:
            with monkeypatch.context() as patch:
                patch.setattr(torch.cuda, "is_available", lambda: True)
                patch.setattr(torch.cuda, "device_count", lambda: 2)
                patch.setattr(torch.cuda, "get_rng_state_all", lambda: states)
                patch.setattr(
                    torch.cuda,
                    "set_rng_state",
                    lambda state, device: restored.append((device, state)),
                )
                function(folder)

        return call

    from glm_experiments.training import trainer

    for function in (save_device_states, restore_device_states):
        monkeypatch.setattr(trainer, function.__name__, in_turn(function))
    folder = tmp_path / "run"
    short = (*SPARSE, "training.max_steps=6")
    assert typed.train(folder, *short).code == 0
    files = json.loads((folder / "checkpoint-3" / "complete.json").read_text())["files"]
    assert remembered.DEVICES in files
    cut_after(3, folder, tmp_path / "again")
    assert typed.train(tmp_path / "again", *short).code == 0
    assert [device for device, _ in restored] == [0, 1]
    assert all(torch.equal(state, states[device]) for device, state in restored)


@pytest.mark.gpu
def test_devices_draw_on_as_if_they_had_not_been_stopped(tmp_path: Path) -> None:
    devices = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    for device in devices:
        torch.rand(7, device=device)
    save_device_states(tmp_path)
    drawn = [torch.rand(100, device=device) for device in devices]
    torch.manual_seed(1)
    restore_device_states(tmp_path)
    again = [torch.rand(100, device=device) for device in devices]
    assert all(map(torch.equal, drawn, again))


@pytest.mark.multi_gpu
def test_a_split_model_goes_on_with_the_dropout_of_every_device(
    typed: Typed, tmp_path: Path
) -> None:
    command = [
        *(*SPARSE, "tuner.lora_dropout=0.3", "model.dtype=float32"),
        *("parallelism=model_parallel", "parallelism.devices=[cuda:0,cuda:1]"),
    ]
    done = typed.train(tmp_path / "whole", *command)
    assert done.code == 0, done.err
    cut_after(3, tmp_path / "whole", tmp_path / "again")
    assert typed.train(tmp_path / "again", *command).code == 0
    assert read_losses(tmp_path / "again") == pytest.approx(read_losses(tmp_path / "whole"))
