import itertools
from pathlib import Path

import pytest
import torch

from glm_experiments.record.files import numbered_checkpoints
from glm_experiments.record.markers import what_is_broken
from tests.parallelism.tiny_runs import TUNERS
from tests.parallelism.trainings import Training, run_alone, run_together

SAVING = {"save_steps": 2, "save_total_limit": None}


def compare(together: dict, alone: dict) -> None:
    assert together["losses"] == pytest.approx(alone["losses"], rel=1e-4)
    assert together["steps"] == alone["steps"] == 6
    assert together["tokens"] == alone["tokens"]
    assert together["state"].keys() == alone["state"].keys()
    for name, value in alone["state"].items():
        assert together["state"][name].shape == value.shape
    assert together["before"] == alone["before"] != alone["answers"]
    assert together["answers"] == alone["answers"]


@pytest.mark.usefixtures("forked_workers")
def test_weights_are_split_and_adapters_whole(tmp_path: Path):
    mixed = Training(parallelism="sharded", dtype=torch.bfloat16, folder="bf16")
    exact = Training(parallelism="sharded", folder="fp32", changes=SAVING)
    half, full = run_together([mixed, exact], tmp_path)
    (alone,) = run_alone([Training(folder="alone")], tmp_path)
    compare(full, alone)
    for result, dtype in ((half, "torch.bfloat16"), (full, "torch.float32")):
        assert all(len(each) == result["num_parameters"] for each in result["parts"])
        first, second = result["parts"]
        for name, (mine, total, kept_dtype, trains) in first.items():
            assert 0 < mine < total, name
            assert mine + second[name][0] == total, name
            assert kept_dtype == ("torch.float32" if trains else dtype), name
    assert half["losses"] == pytest.approx(alone["losses"], rel=0.05)
    assert half["losses"][-1] < half["losses"][0]
    checkpoints = numbered_checkpoints(tmp_path / "fp32")
    assert list(checkpoints) == [2, 4, 6]
    assert [what_is_broken(each) for each in checkpoints.values()] == [None] * 3
    saved = torch.load(checkpoints[6] / "optimizer.pt", weights_only=True)["state"]
    shapes = [value.shape for value in full["state"].values()]
    assert [each["exp_avg"].shape for each in saved.values()] == shapes


@pytest.mark.gpu
@pytest.mark.parametrize("parallelism", ["distributed", "sharded"])
def test_one_gpu_is_a_world_of_its_own(parallelism: str, tmp_path: Path):
    """The GPU's own ways (NCCL, weights that arrive from the host), as far as one card shows."""
    trainings = [
        Training(kind=kind, tuner=tuner, parallelism=parallelism, folder=f"{kind}-{tuner}")
        for kind, tuner in itertools.product(("glm", "chatglm"), TUNERS)
    ]
    alone = run_alone(trainings, tmp_path / "alone")
    there = run_together(trainings, tmp_path, num_processes=1, device="cuda:0")
    for one, other in zip(there, alone, strict=True):
        assert one["losses"] == pytest.approx(other["losses"], rel=2e-3)
        assert one["state"].keys() == other["state"].keys()
        assert one["before"] == other["before"]


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("parallelism", ["distributed", "sharded"])
def test_every_tuner_learns_as_in_one_process(parallelism: str, tmp_path: Path):
    trainings = [
        Training(
            kind=kind,
            tuner=tuner,
            parallelism=parallelism,
            folder=f"{kind}-{tuner}-{checkpointed}",
            changes={"activation_checkpointing": checkpointed},
        )
        for kind, tuner, checkpointed in itertools.product(
            ("glm", "chatglm"), TUNERS, (False, True)
        )
    ]
    alone = run_alone(trainings, tmp_path / "alone")
    together = run_together(trainings, tmp_path)
    for each, one, other in zip(trainings, together, alone, strict=True):
        assert one["losses"] == pytest.approx(other["losses"], rel=1e-4), each
        compare(one, other)


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_a_run_goes_on_under_another_parallelism(tmp_path: Path):
    """Half a run under one, its rest under another: the losses of one run in one process."""
    names = ("single", "distributed", "sharded")
    pairs = [pair for pair in itertools.product(names, names) if pair != ("single", "single")]
    (whole,) = run_alone([Training(folder="whole", changes=SAVING)], tmp_path)

    def half(name: str, pair: tuple[str, str]) -> Training:
        return Training(parallelism=name, folder="-".join(pair), changes=SAVING)

    def run(index: int) -> dict:
        kept = [half(pair[index], pair) for pair in pairs]
        here = [each for each in kept if each.parallelism == "single"]
        there = [each for each in kept if each.parallelism != "single"]
        results = [*run_alone(here, tmp_path), *run_together(there, tmp_path)]
        return {each.folder: result for each, result in zip(here + there, results, strict=True)}

    run(0)
    for pair in pairs:
        folder = tmp_path / "-".join(pair)
        (folder / "checkpoint-6" / "complete.json").unlink()
        (folder / "checkpoint-4" / "complete.json").unlink()
    for name, result in run(1).items():
        assert result["losses"] == pytest.approx(whole["losses"][2:], rel=1e-4), name
        assert result["steps"] == 6
