"""What conf/ and a user's own folder offer."""

import pytest

from glm_experiments import config
from glm_experiments.composing.checking import check_command_line
from glm_experiments.composing.loader import CONF_DIR, build_loader, compose
from tests.composing.reports import report

GROUPS = ("model", "tuner", "parallelism", "data", "training", "evaluation", "tracking")
OPTIONS = [
    f"{group}={file.stem}" for group in GROUPS for file in sorted((CONF_DIR / group).glob("*.yaml"))
]
EXPERIMENTS = sorted(file.stem for file in (CONF_DIR / "experiment").glob("*.yaml"))
# What an option needs beside it to be a run.
NEEDS = {
    "data=files": ["data.path=rows.jsonl"],
    "data=alpaca": ["data.path=rows.json"],
    "data=adgen": ["data.path=rows.json"],
    "model=tiny_glm_untrained": ["tuner=full"],
    "model=tiny_chatglm_untrained": ["tuner=full"],
}


def test_options_and_experiments_are_found():
    assert {option.partition("=")[0] for option in OPTIONS} == set(GROUPS)
    assert {"tuner=lora", "model=tiny_glm", "data=identity"} <= set(OPTIONS)
    assert {"identity", "pretrain_tiny_glm"} <= set(EXPERIMENTS)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_parses(option, composer):
    group, _, name = option.partition("=")
    parsed = config.parse(composer.compose([option, *NEEDS.get(option, [])]))
    section = getattr(parsed, group)
    if hasattr(section, "name"):  # an option may say that it is another one, in some other state
        assert name.startswith(section.name)


@pytest.mark.parametrize("group", config.SCHEMAS)
def test_every_schema_belongs_to_an_option(group):
    files = {file.stem for file in (CONF_DIR / group).glob("*.yaml")}
    assert set(config.SCHEMAS[group]) <= files


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_and_says_what_it_asks(name, composer):
    needs = ["data.path=rows.json"] if name.startswith("adgen") else []
    assert config.parse(composer.compose([f"experiment={name}", *needs])).name == name
    lines = (CONF_DIR / "experiment" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# @package _global_"
    assert lines[1].endswith("?")
    assert f"{lines[2]} ".startswith(f"#   glm-train experiment={name} ")
    assert lines[3].startswith("# Expected: ")


def test_values_come_from_the_file_the_experiment_and_the_command_line(composer):
    cfg = composer.compose(["experiment=identity", "tuner.r=3", "data.author=Grace"])
    parsed = config.parse(cfg)
    assert isinstance(parsed.tuner, config.LoraConfig)
    assert isinstance(parsed.data, config.IdentityConfig)
    assert (parsed.tuner.r, parsed.tuner.lora_alpha, parsed.data.author) == (3, 16, "Grace")
    assert parsed.tuner.target_modules == parsed.model.linear_modules
    assert parsed.data.prompt_format is parsed.model.prompt_format


# A user's own options


@pytest.fixture
def my_conf(tmp_path):
    files = {
        "model/mine.yaml": "defaults: [tiny_glm, _self_]\nname: mine\npath: /models/mine\n",
        "model/broken.yaml": "defaults: [tiny_glm, _self_]\nnme: mine\n",
        "experiment/ours.yaml": "# @package _global_\ndefaults:\n  - override /model: mine\n"
        "name: ours\ntuner:\n  r: 3\n",
        "local/default.yaml": "# @package _global_\ndata:\n  author: Grace\n",
    }
    for name, text in files.items():
        file = tmp_path / "my_conf" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return str(tmp_path / "my_conf")


def test_a_users_own_options_live_outside_the_package(my_conf):
    assert check_command_line(["model=mine"], config_dir=my_conf) == []
    parsed = config.parse(compose(build_loader(my_conf), ["experiment=ours"]))
    assert (parsed.name, parsed.model.path) == ("ours", "/models/mine")
    assert isinstance(parsed.data, config.IdentityConfig)
    assert parsed.data.author == "Grace"  # of local/default.yaml
    # The package's own options are still there.
    assert check_command_line(["model=tiny_chatglm", "tuner=full"], config_dir=my_conf) == []


def test_mistakes_with_a_users_own_options_are_named(my_conf):
    assert report("model=mien", config_dir=my_conf) == [
        "model=mien is no option of model; type model=mine"
    ]
    (problem,) = report("model=broken", config_dir=my_conf)
    assert "Key 'nme' not in 'ModelConfig'" in problem
    with pytest.raises(ValueError, match="--config-dir nowhere: there is no such folder"):
        check_command_line([], config_dir="nowhere")


def test_16_bit_models_leave_their_dtype_to_the_device(composer):
    large = [
        name for name in composer.loader.get_group_options("model") if not name.startswith("tiny_")
    ]
    assert len(large) > 9
    for name in large:
        assert composer.compose([f"model={name}"]).model.dtype == "auto", name
