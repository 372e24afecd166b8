"""Which module may import which: the direction in which facts flow."""

import ast
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import glm_experiments

PACKAGE = Path(glm_experiments.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
# Top-level part of the package -> what it must not import, ours and others'.
FORBIDDEN = {
    "config": {"torch", "transformers", "peft", "glm_experiments."},
    "composing": {
        *("torch", "transformers", "peft", "wandb"),
        *(f"glm_experiments.{name}" for name in ("data", "models", "tuners", "training")),
        *(f"glm_experiments.{name}" for name in ("parallelism", "evaluation", "tracking")),
        *(f"glm_experiments.{name}" for name in ("experiment", "runs", "assembly", "train")),
    },
    "nesting": {"torch", "transformers", "peft", "hydra", "glm_experiments."},
    "spelling": {"torch", "transformers", "peft", "hydra", "glm_experiments."},
    "record": {"torch", "transformers", "glm_experiments."},
    "train": {"torch", "transformers", "peft"},
    "data": {
        *("transformers", "peft", "wandb"),
        *(f"glm_experiments.{name}" for name in ("models", "tuners", "training", "parallelism")),
        *(f"glm_experiments.{name}" for name in ("evaluation", "tracking", "experiment")),
    },
    "models": {
        *("peft", "wandb", "hydra"),
        *(f"glm_experiments.{name}" for name in ("data", "tuners", "training", "parallelism")),
        *(f"glm_experiments.{name}" for name in ("evaluation", "tracking", "experiment")),
    },
    "tuners": {
        *("wandb", "hydra"),
        *(f"glm_experiments.{name}" for name in ("data", "training", "parallelism")),
        *(f"glm_experiments.{name}" for name in ("evaluation", "tracking", "experiment")),
    },
    "training": {
        *("peft", "wandb", "hydra"),
        *(f"glm_experiments.{name}" for name in ("data", "models", "tuners")),
        *(f"glm_experiments.{name}" for name in ("evaluation", "tracking", "experiment")),
    },
    "evaluation": {
        *("peft", "wandb", "hydra"),
        *(f"glm_experiments.{name}" for name in ("models", "tuners", "training", "parallelism")),
        *(f"glm_experiments.{name}" for name in ("tracking", "experiment")),
    },
    "tracking": {"transformers", "peft", "hydra", "glm_experiments.training"},
    "tables": {"torch", "transformers", "glm_experiments."},
    "live": {"torch", "transformers", "glm_experiments."},
}

# Types that one `except` may name; more of them amount to a broad one.
MANY = 3
# Where more are caught, or a type that only the run time knows -> why.
BROAD = {
    "run.py: record_run": "where a run's failure is recorded",
    "command_line.py: run_command": "the last line of a command: what the house rules raise",
    "sources.py: read_hub_dataset": "datasets, its scripts and the hub raise each their own",
    "token_cache.py: read_tables": "a damaged cache is encoded anew, whatever is wrong with it",
    "reading.py: read_composed": "a damaged YAML file ends in errors of three packages",
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


def read_imports(file: Path, *, only_top_level: bool) -> set[str]:
    """Modules that a file imports, those for type checkers left out."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    nodes = tree.body if only_top_level else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


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


def find_handlers() -> list[tuple[str, set[str]]]:
    """Every `except` and `suppress` of the package: file and function, and what it catches."""
    trees = {file: ast.parse(file.read_text(encoding="utf-8")) for file in MODULES}
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


@pytest.mark.parametrize("part", FORBIDDEN)
def test_a_part_imports_nothing_that_it_must_not_know(part: str) -> None:
    files = [file for file in MODULES if part_of(file) == part]
    assert files, f"there is no part {part}"
    lazy_is_fine = part == "train"
    for file in files:
        for name in read_imports(file, only_top_level=lazy_is_fine):
            if name == f"glm_experiments.{part}" or name.startswith(f"glm_experiments.{part}."):
                continue
            for forbidden in FORBIDDEN[part]:
                plain = forbidden.rstrip(".")
                wrong = name.startswith(forbidden) or name == plain or name.startswith(f"{plain}.")
                assert not wrong, f"{file} imports {name}"


def test_only_the_experiment_and_the_commands_see_the_whole_config() -> None:
    seers = {
        str(file.relative_to(PACKAGE))
        for file in MODULES
        if "glm_experiments.config.Config" in read_imports(file, only_top_level=False)
    }
    allowed = {"experiment.py", "assembly.py", "runs.py", "train.py"}
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
        "import sys, glm_experiments, glm_experiments.config, glm_experiments.train; "
        "print([name for name in ('torch', 'transformers', 'peft', 'rich') if name in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert output.strip() == "[]"


def test_tests_have_no_network() -> None:
    with pytest.raises(OSError, match="tests have no network"), socket.socket() as client:
        client.connect(("192.0.2.1", 80))
