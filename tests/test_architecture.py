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
    "results": {"torch", "transformers", "glm_experiments."},
    "composition": {"torch", "transformers", "peft"},
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


@pytest.mark.parametrize("part", FORBIDDEN)
def test_a_part_imports_nothing_that_it_must_not_know(part: str) -> None:
    files = [file for file in MODULES if part_of(file) == part]
    assert files, f"there is no part {part}"
    lazy_is_fine = part in ("composition", "train")
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
    allowed = {"experiment.py", "runs.py", "train.py", "parallelism/workers.py"}
    assert "experiment.py" in seers
    assert {seer for seer in seers if not seer.startswith("commands/")} <= allowed


def test_one_broad_except_in_the_whole_package() -> None:
    places = [
        file.name
        for file in MODULES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler)
        and (
            node.type is None
            or {"Exception", "BaseException"}
            & set(
                ast.unparse(node.type).replace("(", " ").replace(")", " ").replace(",", " ").split()
            )
        )
    ]
    assert places == ["results.py"]


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
