"""A run's saved config, composed anew."""

import pytest

from glm_experiments import config
from glm_experiments.composing.loader import compose
from glm_experiments.composing.saved import recompose


def test_a_saved_config_is_recomposed_with_overrides(loader):
    saved = compose(loader, ["experiment=identity", "tuner.r=3"])
    parsed = config.parse(recompose(saved, ["data=general", "data.context_length=99"]))
    assert isinstance(parsed.data, config.GeneralConfig)
    assert isinstance(parsed.tuner, config.LoraConfig)
    assert (parsed.data.context_length, parsed.tuner.r, parsed.name) == (99, 3, "identity")


def test_bad_overrides_of_a_saved_config_are_all_reported(loader):
    saved = compose(loader, ["experiment=identity"])
    with pytest.raises(ValueError, match="data=genral is no option") as caught:
        recompose(saved, ["data=genral", "data.author_=x", "seed=a"])
    problems = str(caught.value).splitlines()
    assert len(problems) == 3
    assert problems[1] == "- there is no key data.author_; type data.author"
    assert problems[2].startswith("- seed=a: ")
