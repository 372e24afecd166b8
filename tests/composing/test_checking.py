"""Whole command lines, of one job and of many, checked before anything is loaded."""

import pytest

from glm_experiments.composing.checking import check_command_line
from tests.composing.reports import report


def test_what_is_right_passes():
    assert check_command_line(["experiment=identity", "tuner.r=16", "hydra.run.dir=x"]) == []
    assert check_command_line(["+training.extra.adam_beta2=0.9", "++tuner.r=2"]) == []


@pytest.mark.parametrize("multirun", [False, True])
@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["seed=1", "tuner.r=4", "seed=2"], "seed is given more than once (seed=1, seed=2)"),
        (["tuner=lora", "tuner=full"], "tuner is given more than once (tuner=lora, tuner=full)"),
        (
            ["+training.extra.adam_beta2=0.9", "++training.extra.adam_beta2=0.8"],
            "training.extra.adam_beta2 is given more than once "
            "(training.extra.adam_beta2=0.9, training.extra.adam_beta2=0.8)",
        ),
        (
            ["hydra.run.dir=a", "hydra.run.dir=b"],
            "hydra.run.dir is given more than once (hydra.run.dir=a, hydra.run.dir=b)",
        ),
    ],
)
def test_two_values_of_one_key_are_refused_by_name(overrides, problem, multirun):
    assert report(*overrides, multirun=multirun) == [f"{problem}; type one of them"]


def test_one_value_given_twice_is_that_value():
    assert check_command_line(["seed=1", "seed=1"]) == []


def test_a_sweep_gives_its_keys():
    keys = check_command_line(
        [
            "experiment=identity",
            "tuner=lora,p_tuning_v2",
            "training.micro_batch_size=2,4",
            "seed=1",
        ],
        multirun=True,
    )
    assert keys == ["tuner", "training.micro_batch_size"]


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (
            ["tuner.r=4,-8"],
            "tuner.r must be positive, got -8; type e.g. tuner.r=1 (in tuner.r=-8)",
        ),
        (["tuner=lora,loar"], "tuner=loar is no option of tuner; type tuner=lora"),
        (
            ["training.batch_size=8", "training.micro_batch_size=1,2,3"],
            "training.batch_size=8 is not a multiple of training.micro_batch_size=3; "
            "type e.g. training.batch_size=6",
        ),
        (
            ["tuner.r=range(0,2)"],
            "tuner.r must be positive, got 0; type e.g. tuner.r=1 (in tuner.r=0)",
        ),
        (
            ["seed=0,1,2,3,4", "tuner.r=2,4,8,-1"],
            "tuner.r must be positive, got -1; type e.g. tuner.r=1 (in tuner.r=-1)",
        ),
        # A pair that can't be, among many that can.
        (
            ["seed=range(20)", "training.batch_size=6,8", "training.micro_batch_size=2,3"],
            "training.batch_size=8 is not a multiple of training.micro_batch_size=3; "
            "type e.g. training.batch_size=6",
        ),
    ],
)
def test_a_sweep_with_a_bad_value_is_refused_as_a_whole(overrides, problem):
    assert report(*overrides, multirun=True) == [problem]
