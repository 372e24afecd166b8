"""Which module may import which: the direction in which facts flow. And what a module may be."""

import ast
import functools
import re
import socket
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import glm_experiments
from glm_experiments.config import parallelism

PACKAGE = Path(glm_experiments.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
# Part of the package (a folder or a module at its top) -> the parts that it may import. Those that
# know nobody come first, those that put the others together last.
ALLOWED: dict[str, set[str]] = {
    "labels": set(),
    "progress_file": set(),
    "live": {"progress_file"},
    "nesting": set(),
    "record": set(),
    "spelling": set(),
    "streams": set(),
    "tables": set(),
    "tokenizer_protocol": set(),
    "config": set(),
    "composing": {"config", "nesting", "record", "spelling"},
    "processes": {"record"},
    "tracking": {"config", "nesting", "record"},
    "data": {"config", "labels", "live", "spelling", "tables", "tokenizer_protocol"},
    "models": {"config", "spelling", "tokenizer_protocol"},
    "__init__": {"models"},
    "tuners": {"config", "models", "record"},
    "parallelism": {"config", "labels", "models", "processes", "record", "tables"},
    "training": {"config", "labels", "live", "processes", "record", "spelling"},
    "evaluation": {
        *("config", "data", "labels", "live", "record", "tables", "tokenizer_protocol"),
    },
    "assembly": {
        *("config", "data", "evaluation", "models", "parallelism", "processes", "record"),
        *("tokenizer_protocol", "training", "tuners"),
    },
    "described": {"config", "data", "evaluation", "models", "training", "tuners"},
    "experiment": {
        *("assembly", "config", "data", "described", "evaluation", "parallelism", "processes"),
        *("record", "tracking", "training", "tuners"),
    },
    "runs": {
        *("assembly", "composing", "config", "parallelism", "record", "spelling", "training"),
        "tuners",
    },
    "plain_models": {
        *("assembly", "composing", "config", "models", "parallelism", "record", "tuners"),
    },
    "commands": {
        *("config", "data", "evaluation", "models", "plain_models", "record", "runs", "streams"),
        *("assembly", "tuners"),
    },
    "sweeps": {
        *("composing", "config", "live", "models", "processes", "progress_file", "record"),
        *("tables", "tuners"),
    },
    "starting": {"composing", "sweeps"},
    "train": {
        *("composing", "config", "experiment", "processes", "record", "starting", "streams"),
        "training",
    },
}
# A library that shapes the code around it -> the parts that may import it, types aside.
KNOWN_TO: dict[str, set[str]] = {
    "torch": {
        *("assembly", "commands", "data", "evaluation", "experiment", "models", "parallelism"),
        *("processes", "sweeps", "tracking", "training", "tuners"),
    },
    "transformers": {
        *("assembly", "commands", "evaluation", "models", "parallelism", "training", "tuners"),
    },
    "accelerate": {"models", "training"},
    "peft": {"tuners"},
    "hydra": {"composing", "config", "starting", "sweeps", "train"},
    "omegaconf": {"composing", "config", "record", "runs", "sweeps", "train"},
    "datasets": {"data"},
    "wandb": {"tracking"},
    "trackio": {"tracking"},
    "rich": {"live", "tables"},
}

JUNK_DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "base", "core"}
MOST_LINES = 250
LONGER = {
    "data/generated/words.py": "word lists",
    "models/architectures/chatglm/modeling.py": "the version 1 architecture",
}
# Modules that a family of models may have beside another family's.
OF_A_FAMILY = {"__init__", "config", "modeling", "tokenization"}

# Types that one `except` may name; more of them amount to a broad one.
MANY = 3
# Where more are caught, or a type that only the run time knows -> why.
BROAD = {
    "run.py: record_run": "where a run's failure is recorded",
    "command_line.py: run_command": "the last line of a command: what the house rules raise",
    "sources.py: read_hub_dataset": "datasets, its scripts and the hub raise each their own",
    "token_cache.py: read_tables": "a damaged cache is encoded anew, whatever is wrong with it",
    "read_back.py: read_composed": "a damaged YAML file ends in errors of three packages",
    "runs.py: check_saved": "a saved config that lacks or twists anything",
    "runs.py: read_config": "the same, where overrides may be to blame instead",
    "settings_files.py: blame": "what a library makes of an odd value in a file can be anything",
    "weights.py: read_tensors": "a damaged file ends in torch and safetensors in any error",
    "weight_files.py: _open_torch_file": "a damaged pickle ends in any error",
    "locations.py: _fetch": "the HTTPError of whichever httpx the hub's client uses",
    "tracked_run.py: _tell": "a tracker that fails must not end the run",
    "tracked_run.py: open_tracked_run": "a tracker that can't start must not end the run",
    "wandb_tracker.py: start_wandb": "wandb exits where its service is gone",
}


@functools.cache
def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@functools.cache
def read_imports(file: Path, *, with_types: bool) -> set[str]:
    """Modules that a file imports; with_types: those for type checkers, too."""
    tree = parse(file)
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in for_types and not with_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{file}: {ast.unparse(node)}"
            assert node.level == 0, f"{file}: {ast.unparse(node)}"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def parts_of(imports: set[str]) -> set[str]:
    """Parts of the package that imports of these names reach."""
    ours = [name.split(".") for name in imports if name.startswith("glm_experiments.")]
    return {names[1] for names in ours}


def part_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def constants_of(tree: ast.Module) -> dict[str, ast.expr]:
    """Values of a module's constants, by name."""
    return {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }


def names_of(types: ast.expr | None, constants: dict[str, ast.expr]) -> set[str]:
    """Names of the exceptions that an `except` of these types catches; ? for what only runs say."""
    match types:
        case None:
            return {"BaseException"}
        case ast.Tuple(elts=parts):
            return set().union(*(names_of(each, constants) for each in parts))
        case ast.Starred(value=inner):
            return names_of(inner, constants)
        case ast.BinOp(left=left, right=right):
            return names_of(left, constants) | names_of(right, constants)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            if name in constants:
                return names_of(constants[name], constants)
            return {name if name[0].isupper() and not name[1:].isupper() else "?"}
    return {"?"}


@functools.cache
def find_handlers() -> list[tuple[str, set[str]]]:
    """Every `except` and `suppress` of the package: file and function, and what it catches."""
    trees = {file: parse(file) for file in MODULES}
    constants = {key: value for tree in trees.values() for key, value in constants_of(tree).items()}
    found = []
    for file, tree in trees.items():
        functions = {  # of functions in one another the innermost comes last
            id(inner): node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef)
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            place = f"{file.name}: {functions.get(id(node), 'module')}"
            if isinstance(node, ast.ExceptHandler):
                found.append((place, names_of(node.type, constants)))
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
                types = ast.Tuple(elts=node.args)
                found.append((place, names_of(types, constants)))
    return found


def test_every_part_has_its_place() -> None:
    assert {part_of(file) for file in MODULES} == set(ALLOWED)
    # No circle, whatever is lazy or for type checkers alone.
    assert len(list(TopologicalSorter(ALLOWED).static_order())) == len(ALLOWED)
    for parts in (*ALLOWED.values(), *KNOWN_TO.values()):
        assert parts <= set(ALLOWED)


@pytest.mark.parametrize("part", sorted({part_of(file) for file in MODULES}))
def test_a_part_imports_only_what_it_may_know(part: str) -> None:
    for file in [file for file in MODULES if part_of(file) == part]:
        known = parts_of(read_imports(file, with_types=True)) - {part}
        assert known <= ALLOWED[part], f"{file} imports {sorted(known - ALLOWED[part])}"
        imports = read_imports(file, with_types=False)
        libraries = {name.partition(".")[0] for name in imports} & set(KNOWN_TO)
        strange = {name for name in libraries if part not in KNOWN_TO[name]}
        assert not strange, f"{file} imports {sorted(strange)}"


def test_no_two_modules_of_one_name() -> None:
    names = Counter(file.stem for file in MODULES if file.stem not in OF_A_FAMILY)
    assert [name for name, count in names.items() if count > 1] == []


def test_no_module_is_a_hall() -> None:
    lengths = {
        str(file.relative_to(PACKAGE)): len(file.read_text(encoding="utf-8").splitlines())
        for file in MODULES
    }
    assert {name for name, length in lengths.items() if length > MOST_LINES} == set(LONGER)


def test_nothing_is_a_junk_drawer() -> None:
    names = [
        str(file.relative_to(folder))
        for folder in (PACKAGE, Path(__file__).parent)
        for file in folder.rglob("*.py")
    ]
    assert [name for name in names if JUNK_DRAWERS & set(re.split(r"[/._]", name))] == []


def test_the_pipeline_stays_on_one_screen() -> None:
    tree = ast.parse((PACKAGE / "experiment.py").read_text(encoding="utf-8"))
    (stages,) = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name == "run_stages"
    ]
    assert stages.end_lineno is not None
    assert stages.end_lineno - stages.lineno + 1 <= 45


def test_one_module_asks_which_parallelism_it_is() -> None:
    schemas = {name for name, value in vars(parallelism).items() if is_parallelism(value)}
    assert len(schemas) > 5
    seen = set()
    for file in MODULES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id="isinstance" | "issubclass"), args=[_, asked]):
                    pass
                case ast.MatchClass(cls=asked) | ast.MatchValue(value=asked):
                    pass
                case ast.Compare(comparators=[asked]):
                    pass
                case _:
                    continue
            words = re.findall(r"\w+", ast.unparse(asked))
            if schemas & set(words):
                seen.add(str(file.relative_to(PACKAGE)))
    assert seen == {"parallelism/strategies.py"}


def is_parallelism(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, parallelism.ParallelismConfig)


def test_only_the_experiment_and_the_commands_see_the_whole_config() -> None:
    seers = {
        str(file.relative_to(PACKAGE))
        for file in MODULES
        if "glm_experiments.config.Config" in read_imports(file, with_types=True)
    }
    allowed = {"experiment.py", "assembly.py", "plain_models.py", "runs.py", "train.py"}
    assert "experiment.py" in seers
    assert {seer for seer in seers if not seer.startswith("commands/")} <= allowed


def test_one_broad_except_in_the_whole_package() -> None:
    places = [place for place, names in find_handlers() if {"Exception", "BaseException"} & names]
    assert places == ["run.py: record_run"]


def test_excepts_that_amount_to_broad_ones_have_their_reasons() -> None:
    places = {
        place
        for place, names in find_handlers()
        if "SystemExit" in names or "?" in names or len(names) > MANY
    }
    assert places == set(BROAD)


@pytest.mark.parametrize(
    ("types", "names"),
    [
        ("ERRORS", {"A", "B", "C", "D"}),
        ("(module.ERRORS, module.Error)", {"A", "B", "C", "D", "Error"}),
        ("(*chosen, KeyError)", {"?", "KeyError"}),
        ("choose()", {"?"}),
    ],
)
def test_the_types_of_an_except_are_seen_through_constants(types: str, names: set[str]) -> None:
    tree = ast.parse(f"ERRORS = (A, B) + (C, D)\n{types}")
    statement = tree.body[1]
    assert isinstance(statement, ast.Expr)
    assert names_of(statement.value, constants_of(tree)) == names


def test_the_way_to_a_printed_config_imports_no_torch() -> None:
    code = (
        "import sys, glm_experiments, glm_experiments.config, glm_experiments.train, "
        "glm_experiments.composing.saved, glm_experiments.record.run; "
        "print([name for name in ('torch', 'transformers', 'peft', 'rich') if name in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert output.strip() == "[]"


def test_tests_have_no_network() -> None:
    with pytest.raises(OSError, match="tests have no network"), socket.socket() as client:
        client.connect(("192.0.2.1", 80))
