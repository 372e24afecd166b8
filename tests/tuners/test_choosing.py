"""Every kind of tuning is known where it is asked for, and is what its config says."""

import pytest

from glm_experiments.config import SCHEMAS, FreezeConfig, OwnWeights, TunerConfig
from glm_experiments.tuners import apply_tuner
from glm_experiments.tuners.choosing import choose_tuner
from glm_experiments.tuners.interface import Tuner
from tests.tuners.tiny_models import build_glm, freeze_config


class UnknownConfig(TunerConfig):
    pass


@pytest.mark.parametrize("name", SCHEMAS["tuner"])
def test_every_registered_tuner_is_known(name):
    schema = SCHEMAS["tuner"][name]
    assert isinstance(choose_tuner(schema), Tuner)
    assert isinstance(schema.own_weights, OwnWeights)


def test_a_tuner_without_a_case_is_named():
    with pytest.raises(AssertionError, match="no tuner for UnknownConfig: it has no case in"):
        apply_tuner(build_glm(), UnknownConfig(name="unknown", dtype="float32"))


@pytest.mark.parametrize("claim", [OwnWeights.none, OwnWeights.all])
def test_a_tuner_that_trains_other_weights_than_it_says_is_named(claim, monkeypatch):
    monkeypatch.setattr(FreezeConfig, "own_weights", claim)
    with pytest.raises(AssertionError, match=f"FreezeConfig says that it trains {claim} of the"):
        apply_tuner(build_glm(), freeze_config(1))
