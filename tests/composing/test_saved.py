"""A run's saved config, composed anew."""

import pytest
from omegaconf import OmegaConf

from glm_experiments import config
from glm_experiments.composing.loader import CONF_DIR
from glm_experiments.composing.saved import recompose

# Options of the groups whose options have different schemas.
OPTIONS = [
    f"{group}={file.stem}"
    for group in config.SCHEMAS
    for file in sorted((CONF_DIR / group).glob("*.yaml"))
]


def test_a_saved_config_is_recomposed_with_overrides(composer):
    saved = composer.compose(["experiment=identity", "tuner.r=3"])
    parsed = config.parse(recompose(saved, ["data=general", "data.context_length=99"]))
    assert isinstance(parsed.data, config.GeneralConfig)
    assert isinstance(parsed.tuner, config.LoraConfig)
    assert (parsed.data.context_length, parsed.tuner.r, parsed.name) == (99, 3, "identity")


def test_bad_overrides_of_a_saved_config_are_all_reported(composer):
    saved = composer.compose(["experiment=identity"])
    with pytest.raises(ValueError, match="data=genral is no option") as caught:
        recompose(saved, ["data=genral", "data.author_=x", "seed=a"])
    problems = str(caught.value).splitlines()
    assert len(problems) == 3
    assert problems[1] == "- there is no key data.author_; type data.author"
    assert problems[2].startswith("- seed=a: ")


def test_two_values_of_one_key_are_refused_of_a_saved_config_too(composer):
    saved = composer.compose(["experiment=identity"])
    with pytest.raises(ValueError, match=r"seed is given more than once \(seed=1, seed=2\)"):
        recompose(saved, ["seed=1", "seed=2"])


def as_saved(composer, *overrides):
    """A config as a run's record keeps it: plain values."""
    return OmegaConf.create(OmegaConf.to_container(composer.compose(list(overrides)), resolve=True))


@pytest.mark.parametrize("option", OPTIONS)
def test_a_saved_section_is_read_as_what_it_was(option, composer):
    group = option.partition("=")[0]
    wanted = OmegaConf.get_type(composer.compose([option])[group])
    assert OmegaConf.get_type(recompose(as_saved(composer, option), [])[group]) is wanted


def test_options_that_differ_by_name_alone_are_told_apart(composer):
    assert "parallelism=sharded" in OPTIONS
    saved = as_saved(composer, "parallelism=sharded", "parallelism.num_devices=2")
    parsed = config.parse(recompose(saved, []))
    assert parsed.parallelism == config.ShardedConfig(name="sharded", num_devices=2)
    saved = as_saved(composer, "tracking=disabled")
    assert type(config.parse(recompose(saved, [])).tracking) is config.DisabledConfig


def test_a_name_of_the_users_own_hides_no_fields(composer):
    saved = as_saved(composer, "tuner=p_tuning_v2", "tuner.name=lora", "data.name=mine")
    cfg = recompose(saved, ["tuner.num_virtual_tokens=3"])
    assert OmegaConf.get_type(cfg.tuner) is config.PTuningV2Config
    assert OmegaConf.get_type(cfg.data) is config.IdentityConfig


def test_a_section_of_another_version_is_named(composer):
    saved = as_saved(composer)
    saved.tuner.later = 1
    with pytest.raises(ValueError, match=r"the saved tuner \(lora\) is of another version"):
        recompose(saved, [])


def test_a_kind_that_is_stored_tells_more_than_a_name(composer):
    saved = as_saved(composer, "parallelism=sharded", "parallelism.name=mine", "tuner.name=full")
    saved.parallelism.kind, saved.tuner.kind = "sharded", "lora"
    cfg = recompose(saved, ["parallelism.num_devices=4"])
    assert OmegaConf.get_type(cfg.parallelism) is config.ShardedConfig
    assert OmegaConf.get_type(cfg.tuner) is config.LoraConfig
    assert config.parse(cfg).parallelism == config.ShardedConfig(name="mine", num_devices=4)
    saved.tuner.kind = "full"  # whose fields are others
    with pytest.raises(ValueError, match=r"the saved tuner \(full\) is of another version"):
        recompose(saved, [])
