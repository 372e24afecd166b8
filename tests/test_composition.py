"""Command lines as a user types them, right and wrong, checked before anything is loaded."""

import subprocess
import sys
from pathlib import Path

import pytest

from glm_experiments import composition, config
from glm_experiments.composition import CONF_DIR, build_loader, check_command_line, compose

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


@pytest.fixture(scope="module")
def loader():
    return build_loader()


def report(*overrides: str, **settings: object) -> list[str]:
    """The problems of a command line, without their dashes."""
    with pytest.raises(ValueError, match=r"^- ") as caught:
        check_command_line(list(overrides), **settings)  # type: ignore[arg-type]
    return [line.removeprefix("- ") for line in str(caught.value).splitlines()]


# What conf/ offers


def test_options_and_experiments_are_found():
    assert {option.partition("=")[0] for option in OPTIONS} == set(GROUPS)
    assert {"tuner=lora", "model=tiny_glm", "data=identity"} <= set(OPTIONS)
    assert {"identity", "pretrain_tiny_glm"} <= set(EXPERIMENTS)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_parses(option, loader):
    group, _, name = option.partition("=")
    parsed = config.parse(compose(loader, [option, *NEEDS.get(option, [])]))
    section = getattr(parsed, group)
    if hasattr(section, "name"):  # an option may say that it is another one, in some other state
        assert name.startswith(section.name)


@pytest.mark.parametrize("group", config.SCHEMAS)
def test_every_schema_belongs_to_an_option(group):
    files = {file.stem for file in (CONF_DIR / group).glob("*.yaml")}
    assert set(config.SCHEMAS[group]) <= files


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_and_says_what_it_asks(name, loader):
    needs = ["data.path=rows.json"] if name.startswith("adgen") else []
    assert config.parse(compose(loader, [f"experiment={name}", *needs])).name == name
    lines = (CONF_DIR / "experiment" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# @package _global_"
    assert lines[1].endswith("?")
    assert f"glm-train experiment={name}" in lines[2]
    assert lines[3].startswith("# Expected: ")


def test_values_come_from_the_file_the_experiment_and_the_command_line(loader):
    cfg = compose(loader, ["experiment=identity", "tuner.r=3", "data.author=Grace"])
    parsed = config.parse(cfg)
    assert isinstance(parsed.tuner, config.LoraConfig)
    assert isinstance(parsed.data, config.IdentityConfig)
    assert (parsed.tuner.r, parsed.tuner.lora_alpha, parsed.data.author) == (3, 16, "Grace")
    assert parsed.tuner.target_modules == parsed.model.linear_modules
    assert parsed.data.prompt_format is parsed.model.prompt_format


# Mistakes


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("tuner.rr=4", "there is no key tuner.rr; type tuner.r"),
        ("modle=tiny_glm", "there is no key modle; type model"),
        ("learning_rate=0.1", "there is no key learning_rate; type training.learning_rate"),
        ("tuner=loar", "tuner=loar is no option of tuner; type tuner=lora"),
        ("experiment=identty", "experiment=identty is no option of experiment; "
         "type experiment=identity"),
        ("tuner.r=-1", "tuner.r must be positive, got -1; type e.g. tuner.r=1"),
        ("tuner.lora_dropout=1", "tuner.lora_dropout must be at least 0 and below 1, got 1.0; "
         "type e.g. tuner.lora_dropout=0"),
        ("training.batch_size=10", "training.batch_size=10 is not a multiple of "
         "training.micro_batch_size=4; type e.g. training.batch_size=8"),
        ("data.num_validation_rows=0", "there is nothing to evaluate on: data.num_validation_rows "
         "is 0; type e.g. data.num_validation_rows=100, or evaluation.before=false "
         "evaluation.after=false"),
        ("data=files", "data.path is not given; type data.path=FILE, a glob, 'data.path=[A,B]' "
         "or a hub dataset's id"),
        ("training.max_steps=5", "exactly one of training.max_steps and training.num_train_epochs "
         "is wanted; type e.g. training.max_steps=100 training.num_train_epochs=null"),
        ("training.early_stopping_patience=2", "training.early_stopping_patience needs evaluations "
         "while training; type e.g. training.eval_steps=50"),
        ("tuner.num_virtual_tokens=4", "tuner.num_virtual_tokens: tuner=lora has no "
         "num_virtual_tokens; type tuner=p_tuning_v2 to use it"),
        ("parallelism.num_devices=2", "parallelism.num_devices: parallelism=single has no "
         "num_devices; type parallelism=distributed or parallelism=sharded to use it"),
        ("parallelism.device=gpu", "parallelism.device has 'gpu', which names no device; type cpu "
         "or e.g. cuda:0"),
        ("+training.extra.bf16=true", "training.extra.bf16 repeats model.dtype; set model.dtype "
         "instead"),
        ("+training.extra.push_to_hub=true", "training.extra.push_to_hub has no place in a run "
         "here; leave it out"),
        ("training.extra.adam_beta2=0.9", "training.extra.adam_beta2=0.9: type "
         "+training.extra.KEY=VALUE to add a key"),
        ("tuner=LoRA", "tuner=LoRA is no option of tuner; type tuner=lora"),
        ("tuner=", "tuner= is no option of tuner; type one of: freeze, full, lora, lora_linear, "
         "p_tuning_v2"),
        ("identity", "'identity' is no key=value; type data=identity or experiment=identity"),
        ("training.max_steps", "'training.max_steps' is no key=value; type "
         "training.max_steps=VALUE"),
        ("data.author=O'Brien", "data.author=O'Brien can't be read as key=value; if it is text, "
         """type 'data.author="O'"'"'Brien"'"""),
        ("data.author=Ada, Countess", "data.author=Ada, Countess: several values make a sweep; "
         """type -m before them, or 'data.author="Ada, Countess"'"""),
        ("=3", "'=3' is no key=value; type KEY=VALUE"),
        ("+foo=1", "there is no key foo; type one of: data, evaluation, experiment, model, name, "
         "parallelism, seed, sweep, tracking, training, tuner"),
        ("+tuner.r=4", "+tuner.r=4: tuner.r is there already; type tuner.r=4"),
        ("~tuner", "~tuner: a run needs every key; type tuner=... to change it"),
        ("tuner.r=4,8", "tuner.r=4,8: several values make a sweep; type -m before them"),
        ("seed=-1", "seed must be at least 0 and below 2**32, got -1; type e.g. seed=0"),
        ("name=", "name is blank; type e.g. name=my_run"),
        ("model=tiny_glm_untrained", "tuner=lora would leave the random weights of "
         "model.weights=random as they are; type tuner=full, or model.weights=pretrained"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_what_to_type(override, problem):
    assert report(override) == [problem]


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        (
            "tuner.r=abc",
            ["tuner.r=abc", "could not be converted to Integer", "type e.g. tuner.r=8"],
        ),
        ("model.dtype=bf16", ["expected one of [float32, bfloat16, float16]", "model.dtype="]),
        ("training.lr_scheduler_type=cosin", ["[linear, cosine, ", "lr_scheduler_type=cosine"]),
        ("tuner.target_modules=q_proj", ["tuner.target_modules=q_proj", "str is not a ListConfig"]),
        ("training.max_steps=ten", ["to Integer; type e.g. training.max_steps=null"]),
        ("training.batch_size=null", ["is not Optional", "type e.g. training.batch_size=16"]),
    ],
)
def test_a_mistyped_value_is_named_with_a_right_one(override, parts):
    (problem,) = report(override)
    for part in parts:
        assert part in problem


def test_all_problems_come_in_one_report():
    assert report(
        "tuner=loar", "tuner.rr=4", "training.batch_size=10", "data.context_length=0", "+foo.bar=1"
    ) == [
        "there is no key foo.bar; type one of: data, evaluation, experiment, model, name, "
        "parallelism, seed, sweep, tracking, training, tuner",
        "tuner=loar is no option of tuner; type tuner=lora",
        "there is no key tuner.rr; type tuner.r",
        "data.context_length must be positive, got 0; type e.g. data.context_length=1",
        "training.batch_size=10 is not a multiple of training.micro_batch_size=4; "
        "type e.g. training.batch_size=8",
    ]


def test_what_is_right_passes():
    assert check_command_line(["experiment=identity", "tuner.r=16", "hydra.run.dir=x"]) == []
    assert check_command_line(["+training.extra.adam_beta2=0.9", "++tuner.r=2"]) == []


@pytest.mark.parametrize(
    ("typed", "quoted"),
    [
        ("data.assistant_name=小智", "data.assistant_name='小智'"),
        ("data.assistant_name=小智,小明", "data.assistant_name='小智','小明'"),
        ("data.path=[数据/甲 乙.json,b.json]", "data.path=['数据/甲 乙.json',b.json]"),
        ("data.author='Zoë'", "data.author='Zoë'"),
        ("data.author=Ada", "data.author=Ada"),
    ],
)
def test_letters_beyond_ascii_need_no_quotes(typed, quoted):
    assert composition.quote_text(typed) == quoted
    needs = [] if "path" not in typed else ["data=files"]
    assert check_command_line([*needs, typed], multirun="," in typed) == (
        [typed.partition("=")[0]] if "小明" in typed else []
    )


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("data.path=~/a b.json", "data.path=/home/ada/a b.json"),
        ("hydra.run.dir='~/runs'", "hydra.run.dir='/home/ada/runs'"),
        ("data.path=[~/a.json,~/数.json]", "data.path=[/home/ada/a.json,'/home/ada/数.json']"),
        ("data.path=a~/b~c.json", "data.path=a~/b~c.json"),
        ("~tuner", "~tuner"),
    ],
)
def test_a_tilde_is_the_home(typed, read, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert composition.quote_text(typed) == read


def test_what_hydra_itself_cannot_read_is_named_with_what_to_type(typed):
    from glm_experiments import train

    done = typed(train.main, "hydra.run.dir=runs(1)", "tuner.rr=4")
    assert (done.code, done.err) == (
        1,
        "glm-train: - hydra.run.dir=runs(1) can't be read as key=value; if it is text, type "
        "'hydra.run.dir=\"runs(1)\"'\n- there is no key tuner.rr; type tuner.r\n",
    )


# Sweeps


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
        (["tuner.r=4,-8"], "tuner.r must be positive, got -8; type e.g. tuner.r=1"),
        (["tuner=lora,loar"], "tuner=loar is no option of tuner; type tuner=lora"),
        (
            ["training.batch_size=8", "training.micro_batch_size=1,2,3"],
            "training.batch_size=8 is not a multiple of training.micro_batch_size=3; "
            "type e.g. training.batch_size=6",
        ),
        (["tuner.r=range(0,2)"], "tuner.r must be positive, got 0; type e.g. tuner.r=1"),
        # More combinations than are composed: each value still is.
        (
            ["seed=0,1,2,3,4", "tuner.r=2,4,8,-1"],
            "tuner.r must be positive, got -1; type e.g. tuner.r=1",
        ),
    ],
)
def test_a_sweep_with_a_bad_value_is_refused_as_a_whole(overrides, problem):
    assert report(*overrides, multirun=True) == [problem]


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


# A saved config


def test_a_saved_config_is_recomposed_with_overrides(loader):
    saved = compose(loader, ["experiment=identity", "tuner.r=3"])
    parsed = config.parse(composition.recompose(saved, ["data=general", "data.context_length=99"]))
    assert isinstance(parsed.data, config.GeneralConfig)
    assert isinstance(parsed.tuner, config.LoraConfig)
    assert (parsed.data.context_length, parsed.tuner.r, parsed.name) == (99, 3, "identity")


def test_bad_overrides_of_a_saved_config_are_all_reported(loader):
    saved = compose(loader, ["experiment=identity"])
    with pytest.raises(ValueError, match="data=genral is no option") as caught:
        composition.recompose(saved, ["data=genral", "data.author_=x", "seed=a"])
    problems = str(caught.value).splitlines()
    assert len(problems) == 3
    assert problems[1] == "- there is no key data.author_; type data.author"
    assert problems[2].startswith("- seed=a: ")


def test_nothing_here_imports_torch():
    code = (
        "import sys; from glm_experiments import composition, train;"
        "composition.check_command_line(['experiment=identity']);"
        "print([each for each in ('torch', 'transformers', 'peft') if each in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent,
    )
    assert done.stdout.strip() == "[]"
