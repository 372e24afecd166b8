import subprocess
import sys

import pytest

import glm_experiments  # noqa: F401  tells them

CHECK = """
import sys
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.tokenization_auto import tokenizer_class_from_name
config = AutoConfig.for_model("chatglm", hidden_size=16, num_attention_heads=2, num_layers=1,
                              inner_hidden_size=16, vocab_size=20)
print(type(AutoModelForCausalLM.from_config(config)).__name__, end=" ")
print(type(AutoModel.from_config(config)).__name__, end=" ")
print(tokenizer_class_from_name("ChatGLM3Tokenizer").__name__, end=" ")
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as names
print(names["chatglm"] == "ChatGLMForCausalLM", end=" ")
print(any(type(each).__name__ == "ImportWatcher" for each in sys.meta_path))
"""
HALF_WAY = "from transformers import PreTrainedModel"  # imports Auto classes while it loads


EXPECTED = "ChatGLMForCausalLM ChatGLMModel ChatGLM3Tokenizer True False"


def run(code: str) -> str:
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.splitlines()[-1].strip()  # trackers greet first


def test_auto_classes_know_the_models_here(capsys):
    exec(CHECK, {})
    assert capsys.readouterr().out.strip() == EXPECTED


@pytest.mark.slow  # a process each, in which imports have an order
@pytest.mark.parametrize(
    "imports",
    [
        (HALF_WAY, "import glm_experiments"),
        *(
            ("import glm_experiments", first)
            for first in (
                HALF_WAY,
                "from transformers import AutoConfig",
                "from transformers import AutoModelForCausalLM",
                "from transformers import AutoTokenizer",
                "from transformers import Trainer",
                "import transformers.modeling_layers",
                "import peft",
                "import glm_experiments.models.architectures.chatglm.modeling",
                "import glm_experiments.models.loading",
            )
        ),
    ],
)
def test_auto_classes_know_the_models(imports):
    assert run("\n".join([*imports, CHECK])) == EXPECTED


OTHER_HOOKS = """
import importlib.machinery, sys
executed = []
class Noting(importlib.machinery.SourceFileLoader):
    def exec_module(self, module):
        executed.append(module.__name__)
        super().exec_module(module)
class Other:
    def __init__(self, name):
        self.name, self.asked = name, []
    def find_spec(self, fullname, path, target=None):
        self.asked.append(fullname)
        if fullname != self.name:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        spec.loader = Noting(fullname, spec.origin)
        return spec
before = Other("transformers.modeling_layers")
after = Other("transformers.models.auto.modeling_auto")
sys.meta_path.insert(0, after)
import glm_experiments
sys.meta_path.insert(0, before)
"""
HONOURED = """
assert sorted(executed) == [before.name, after.name], executed
for each in before.name, after.name, "transformers.modeling_utils":
    assert each in before.asked and (each in after.asked or each == before.name), each
    loader = sys.modules[each].__loader__
    assert type(loader).__module__ != "glm_experiments.models.import_watching"
    assert sys.modules[each].__spec__.loader is loader
assert before in sys.meta_path and after in sys.meta_path
"""


@pytest.mark.slow
def test_import_hooks_of_others_are_asked_and_honoured():
    """One that comes before ours and loads what imports Auto classes half-way, one behind ours."""
    assert run("\n".join([OTHER_HOOKS, HALF_WAY, CHECK, HONOURED])) == EXPECTED
