"""transformers' own common tests of models, on version 1's classes.

They are in the source distribution of the installed version, which pip fetches; skipped by name
where it can't. What they import besides, of folders that are not in it, is left out.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tarfile
import types
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from glm_experiments.models.architectures.chatglm.modeling import ChatGLMForCausalLM, ChatGLMModel
from tests.models.architectures.chatglm.tiny_chatglm import build_config

pytestmark = pytest.mark.slow
NAME = "transformers_own_tests"
# Modules that test_modeling_common imports and the distribution lacks -> the class it wants.
ABSENT = {
    "generation.test_utils": "GenerationTesterMixin",
    "exporters.test_export": "ExportTesterMixin",
}
# Common tests that can't be passed by version 1, and why.
EXCEPTED = {
    "test_generation_tester_mixin_inheritance": "the tests of generation are not distributed",
    "test_bc_cache_name_forward": "wants a warning at the cache's old name; here both are names",
}


@pytest.fixture(scope="session")
def sources(request: pytest.FixtureRequest) -> Path:
    """The tests folder of the installed version's source distribution."""
    version = transformers.__version__
    folder = Path(request.config.cache.mkdir(f"transformers-{version}"))
    tests = folder / f"transformers-{version}" / "tests"
    if not tests.is_dir():
        command = [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
            *("--no-binary", ":all:", "--dest", str(folder), f"transformers=={version}"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        archives = list(folder.glob("transformers-*.tar.gz"))
        if not archives:
            pytest.skip(f"no source distribution of transformers {version}: {done.stderr[-200:]}")
        with tarfile.open(archives[0]) as archive:
            archive.extractall(folder, filter="data")
    if not (tests / "test_modeling_common.py").is_file():
        pytest.skip(f"the source distribution of transformers {version} has no common tests")
    return tests


@pytest.fixture(scope="session")
def common(sources: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The module of the common tests of models."""
    pytest.importorskip("parameterized", reason="the common tests need the package parameterized")
    for file in sources.glob("*.py"):  # marks that are declared elsewhere in their repository
        for mark in re.findall(r"@(?:pytest\.)?mark\.(\w+)", file.read_text(encoding="utf-8")):
            request.config.addinivalue_line("markers", f"{mark}: of transformers")
    package = types.ModuleType(NAME)
    package.__path__ = [str(sources)]  # type: ignore[attr-defined]
    sys.modules[NAME] = package
    for name, wanted in ABSENT.items():
        parent, _, _ = name.partition(".")
        for full in (f"{NAME}.{parent}", f"{NAME}.{name}"):
            module = sys.modules.setdefault(full, types.ModuleType(full))
            module.__path__ = []  # type: ignore[attr-defined]
        setattr(sys.modules[f"{NAME}.{name}"], wanted, type(wanted, (), {}))
    yield importlib.import_module(f"{NAME}.test_modeling_common")
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]


class Tester:
    """What the common tests ask of a model's own tests."""

    __test__ = False
    is_training = True
    batch_size, seq_length = 3, 12

    def __init__(self, parent: Any) -> None:
        self.parent = parent
        config = self.get_config()
        self.hidden_size = config.hidden_size
        self.num_hidden_layers = config.num_hidden_layers
        self.num_attention_heads = config.num_attention_heads

    def get_config(self) -> Any:
        return build_config()

    def prepare_config_and_inputs_for_common(self) -> tuple[Any, dict[str, torch.Tensor]]:
        config = self.get_config()
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(10, 60, (self.batch_size, self.seq_length), generator=generator)
        ids[:, 6], ids[:, 7] = config.gmask_token_id, config.bos_token_id
        return config, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def test_the_common_tests_pass(common: Any) -> None:
    class ChatGLMTest(common.ModelTesterMixin, unittest.TestCase):  # type: ignore[misc]
        all_model_classes = (ChatGLMModel, ChatGLMForCausalLM)

        def setUp(self) -> None:
            self.model_tester = Tester(self)

    suite = unittest.defaultTestLoader.loadTestsFromTestCase(ChatGLMTest)
    result = unittest.TestResult()
    suite.run(result)
    failed = {
        case.id().rpartition(".")[2].partition(" ")[0]: trace
        for case, trace in [*result.failures, *result.errors]
    }
    passed = result.testsRun - len(result.skipped) - len(failed)
    print(f"{passed} passed, {len(result.skipped)} skipped, {', '.join(failed)} excepted")
    assert {name: trace for name, trace in failed.items() if name not in EXCEPTED} == {}
    assert passed > 60
