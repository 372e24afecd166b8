"""What the README says of adding an option is all that it takes: copies of the package get one
more option each, in the places named there and nowhere else, and train, evaluate and export."""

import ast
import json
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.running import TINY, read_record

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path("glm_experiments")
# No experiment: it would set what another kind of data has not.
OTHERS = ("experiment=", "training.max_steps=")
SHORT = (
    *(each for each in TINY if not each.startswith(OTHERS)),
    *("training.max_steps=4", "evaluation.before=false"),
)
# What a user would type, one command after the other in one process: (main, its arguments).
COMMANDS = """
import json, sys
from pathlib import Path
from hydra.core.global_hydra import GlobalHydra
import glm_experiments
from glm_experiments import train
from glm_experiments.commands import evaluate, export

assert Path(glm_experiments.__file__).parents[1] == Path.cwd(), glm_experiments.__file__
for name, arguments in json.loads(sys.argv[1]):
    GlobalHydra.instance().clear()
    sys.argv = [f"glm-{name}", *arguments]
    try:
        {"train": train, "evaluate": evaluate, "export": export}[name].main()
    except SystemExit as stop:
        if stop.code:
            raise
"""


@dataclass(frozen=True, kw_only=True)
class Insertion:
    """Lines that go into a file that is there: before the one that begins so, or at the end."""

    file: str
    before: str | None
    text: str


@dataclass(frozen=True, kw_only=True)
class Addition:
    """A new option: what is written for it, how it is typed, what shows that it was in use."""

    group: str
    name: str
    files: dict[str, str]
    insertions: tuple[Insertion, ...] = ()
    material: dict[str, str] | None = None
    """Files of the user's, no part of the option."""
    overrides: tuple[str, ...] = ()
    exports: str
    """What glm-export says that it wrote."""
    trained: frozenset[str] | None = None
    """Names of all that the adapter holds; None: LoRA's."""
    says: tuple[str, ...] = ()
    """What the commands say besides, which shows that the option was in use."""

    def places(self) -> set[str]:
        """Files that change, and folders that get one, as the README calls them."""
        changed = {each.file for each in self.insertions}
        folders = {f"{Path(file).parent}/" for file in self.files}
        return {place.removeprefix(f"{PACKAGE}/") for place in changed | folders}


TUNER = Addition(
    group="tuner",
    name="final_norm",
    insertions=(
        Insertion(
            file="glm_experiments/config/tuner.py",
            before=None,
            text='''

@dataclass(kw_only=True, slots=True)
class FinalNormConfig(TunerConfig):
    """Train the last norm, freeze the rest."""

    own_weights: ClassVar[OwnWeights] = OwnWeights.some

    noise: float
    """Standard deviation of what is added to the weights before training."""

    def problems(self) -> list[str]:
        return within("tuner", {"noise": self.noise}, 0, 1)
''',
        ),
        Insertion(
            file="glm_experiments/config/registration.py",
            before="from glm_experiments.config.tuner import ",
            text="from glm_experiments.config.tuner import FinalNormConfig\n",
        ),
        Insertion(
            file="glm_experiments/config/registration.py",
            before='        "lora": ',
            text='        "final_norm": FinalNormConfig,\n',
        ),
        Insertion(
            file="glm_experiments/tuners/choosing.py",
            before="from glm_experiments.tuners.freeze import ",
            text="from glm_experiments.tuners.final_norm import FinalNorm\n",
        ),
        Insertion(
            file="glm_experiments/tuners/choosing.py",
            before="        case _:",
            text="        case schemas.FinalNormConfig:\n            return FinalNorm()\n",
        ),
    ),
    files={
        "conf/tuner/final_norm.yaml": """\
# The last norm trains, the rest is frozen.
defaults:
  - /schema/tuner/final_norm@_here_
  - _self_
name: final_norm
dtype: float32
noise: 0.01
""",
        "glm_experiments/tuners/final_norm.py": '''\
"""Tuning the last norm alone."""

import torch
from transformers import PreTrainedModel

from glm_experiments.config.tuner import FinalNormConfig
from glm_experiments.tuners.interface import Tuner


class FinalNorm(Tuner[FinalNormConfig]):
    """Trains the last norm, from weights with some noise."""

    def apply(self, model: PreTrainedModel, config: FinalNormConfig, *, seed: int) -> None:
        self.insert(model, config)
        weight = model.base_model.norm.weight
        generator = torch.Generator().manual_seed(seed)
        noise = config.noise * torch.empty(weight.shape).normal_(generator=generator)
        weight.data += noise.to(weight)

    def insert(self, model: PreTrainedModel, config: FinalNormConfig) -> None:
        model.requires_grad_(False)
        model.base_model.norm.requires_grad_(True)
''',
    },
    overrides=("tuner=final_norm",),
    exports="GlmForCausalLM in float32 (from_pretrained)",
    trained=frozenset({"model.norm.weight"}),
)
PARALLELISM = Addition(
    group="parallelism",
    name="counted",
    insertions=(
        Insertion(
            file="glm_experiments/config/parallelism.py",
            before=None,
            text='''

@dataclass(kw_only=True, slots=True)
class CountedConfig(ParallelismConfig):
    """One device, which counts what is asked of it."""

    passes_a_line: int
    """Forward passes of a training from one line of the log to the next."""

    def problems(self) -> list[str]:
        return positive("parallelism", {"passes_a_line": self.passes_a_line})
''',
        ),
        Insertion(
            file="glm_experiments/config/registration.py",
            before="from glm_experiments.config.parallelism import ",
            text="from glm_experiments.config.parallelism import CountedConfig\n",
        ),
        Insertion(
            file="glm_experiments/config/registration.py",
            before='        "single": ',
            text='        "counted": CountedConfig,\n',
        ),
        Insertion(
            file="glm_experiments/parallelism/strategies.py",
            before="from glm_experiments.parallelism.data_parallel import ",
            text="from glm_experiments.config.parallelism import CountedConfig\n"
            "from glm_experiments.parallelism.counted import CountedStrategy\n",
        ),
        Insertion(
            file="glm_experiments/parallelism/strategies.py",
            before="        case _:",
            text="        case CountedConfig():\n"
            "            strategy = CountedStrategy(config, num_gpus=num_gpus, world=world)\n",
        ),
    ),
    files={
        "conf/parallelism/counted.yaml": """\
# One device, which counts what is asked of it.
defaults:
  - /schema/parallelism/counted@_here_
  - _self_
name: counted
passes_a_line: 2
""",
        "glm_experiments/parallelism/counted.py": '''\
"""One process on one device, which counts the forward passes of a training."""

import logging

from torch import nn
from transformers import PreTrainedModel

from glm_experiments.config.parallelism import CountedConfig
from glm_experiments.parallelism.strategy import Strategy
from glm_experiments.parallelism.visible_devices import check_alone, plan_device
from glm_experiments.processes.world import World

log = logging.getLogger(__name__)


class CountedStrategy(Strategy):
    """Says now and then how often the model was called."""

    def __init__(self, config: CountedConfig, *, num_gpus: int, world: World | None) -> None:
        check_alone(world, option=config.name)
        super().__init__([plan_device(None, num_gpus=num_gpus)], world=world)
        self.passes_a_line = config.passes_a_line

    def wrap(self, model: PreTrainedModel, *, trains_own_weights: bool) -> nn.Module:
        return Counted(model, passes_a_line=self.passes_a_line)


class Counted(nn.Module):
    """Calls `module` and counts."""

    def __init__(self, module: nn.Module, *, passes_a_line: int) -> None:
        super().__init__()
        self.module = module
        self.passes_a_line = passes_a_line
        self.num_passes = 0

    def forward(self, **batch: object) -> object:
        self.num_passes += 1
        if self.num_passes % self.passes_a_line == 0:
            log.info("%d forward passes", self.num_passes)
        return self.module(**batch)
''',
    },
    overrides=("parallelism=counted",),
    exports="GlmForCausalLM in float32 (from_pretrained)",
    says=("2 forward passes", "4 forward passes"),
)
MODEL = Addition(
    group="model",
    name="small_chatglm",
    files={
        "conf/model/small_chatglm.yaml": """\
# The version 1 that ships with the package, attending step by step.
defaults:
  - tiny_chatglm
  - _self_
name: small_chatglm
attn_implementation: eager
"""
    },
    overrides=("model=small_chatglm",),
    exports=(
        "ChatGLMForCausalLM in float32 (from_pretrained with trust_remote_code=True, "
        "or after import glm_experiments)"
    ),
)
DATA = Addition(
    group="data",
    name="sums",
    files={
        "conf/data/sums.yaml": """\
# Sums of small numbers, one a line.
defaults:
  - files
  - _self_
name: sums
path: sums.jsonl
prompt_column: sum
response_column: result
"""
    },
    material={
        "sums.jsonl": "".join(
            json.dumps({"sum": f"{a}+{a + 1}=", "result": str(2 * a + 1)}) + "\n" for a in range(40)
        )
    },
    overrides=("data=sums",),
    exports="GlmForCausalLM in float32 (from_pretrained)",
)
ADDITIONS = [TUNER, PARALLELISM, MODEL, DATA]


def add(addition: Addition, folder: Path) -> None:
    """Copy package and options into `folder`, with one option more."""
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("glm_experiments", "conf"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for each in addition.insertions:
        file = folder / each.file
        text = file.read_text(encoding="utf-8")
        places = [len(text)] if each.before is None else find_lines(text, each.before)
        assert len(places) == 1, f"{each.file} has {len(places)} lines that begin {each.before!r}"
        file.write_text(text[: places[0]] + each.text + text[places[0] :], encoding="utf-8")
    for name, text in {**addition.files, **(addition.material or {})}.items():
        assert not (folder / name).exists()
        (folder / name).write_text(text, encoding="utf-8")


def find_lines(text: str, beginning: str) -> list[int]:
    """Where the lines of `text` start that begin so."""
    return [each.start() for each in re.finditer(f"^{re.escape(beginning)}", text, re.MULTILINE)]


def run_commands(folder: Path, *commands: tuple[str, list[str]]) -> str:
    """Run commands of the copy in `folder`; returns what they said."""
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, json.dumps(commands)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("addition", ADDITIONS, ids=lambda each: each.group)
def test_an_added_option_trains_evaluates_and_exports(addition: Addition, tmp_path: Path) -> None:
    root = tmp_path.resolve()
    add(addition, root)
    said = run_commands(
        root,
        ("train", [*SHORT, *addition.overrides, "hydra.run.dir=run"]),
        ("evaluate", ["run"]),
        ("export", ["run", "--to", "exported"]),
    )
    record = read_record(root / "run")
    assert record["run"]["status"] == "finished"
    assert record["config"][addition.group]["name"] == addition.name
    assert math.isfinite(record["outcome"]["loss"])
    (evaluation,) = root.glob("run/evaluations/*/evaluation.json")
    measured = json.loads(evaluation.read_text(encoding="utf-8"))["outcome"]["metrics"]["after"]
    assert measured == record["outcome"]["metrics"]["after"]
    assert f"{addition.exports}: exported" in said
    assert [each for each in addition.says if each not in said] == []
    if addition.trained is not None:
        trained = load_file(root / "run" / "adapter" / "adapter_model.safetensors")
        exported = load_file(root / "exported" / "model.safetensors")
        assert trained.keys() == addition.trained
        assert all(value.equal(exported[name]) for name, value in trained.items())


@pytest.mark.parametrize("addition", ADDITIONS, ids=lambda each: each.group)
def test_the_readme_names_every_place(addition: Addition) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## Adding things")[2].partition("\n## ")[0]
    kinds = (f"- **{addition.group}**", f"- **a {addition.group}**")
    (line,) = [line for line in section.splitlines() if line.startswith(kinds)]
    assert {place for place in addition.places() if f"`{place}`" not in line} == set()


def test_every_match_says_what_becomes_of_the_rest() -> None:
    files = sorted((ROOT / PACKAGE).rglob("*.py"))
    matches = [
        (file, node)
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Match)
    ]
    assert matches
    for file, node in matches:
        last = node.cases[-1]
        is_rest = ast.unparse(last.pattern) == "_" and last.guard is None
        assert is_rest, f"{file}:{node.lineno} has no `case _`"
