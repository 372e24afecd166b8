"""Makes the package's classes known to transformers' Auto* classes, as soon as those exist.

`install_hook` imports nothing, and costs nothing until transformers' auto modules are imported.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

_AUTO = "transformers.models.auto."


def register_config() -> None:
    """`AutoConfig` for model_type chatglm; a second call changes nothing."""
    from transformers import AutoConfig

    from glm_experiments.models.chatglm.config import ChatGLMConfig

    AutoConfig.register(ChatGLMConfig.model_type, ChatGLMConfig, exist_ok=True)


def register_models() -> None:
    """`AutoModel` and `AutoModelForCausalLM` for ChatGLM-6B, with its config.

    By name too: from its tables of names the library tells what is a causal language model, which
    decides about shifted labels under the Trainer's label smoothing and about pipelines.
    """
    from transformers import AutoModel, AutoModelForCausalLM
    from transformers.models.auto import modeling_auto

    from glm_experiments.models.chatglm.config import ChatGLMConfig
    from glm_experiments.models.chatglm.modeling import ChatGLMForCausalLM, ChatGLMModel

    register_config()
    AutoModel.register(ChatGLMConfig, ChatGLMModel, exist_ok=True)
    AutoModelForCausalLM.register(ChatGLMConfig, ChatGLMForCausalLM, exist_ok=True)
    for names, model in (
        (modeling_auto.MODEL_MAPPING_NAMES, ChatGLMModel),
        (modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, ChatGLMForCausalLM),
    ):
        names[ChatGLMConfig.model_type] = model.__name__


def register_tokenizers() -> None:
    """`AutoTokenizer` for ChatGLM-6B, and for all tokenizers by the name in their files."""
    from transformers import AutoTokenizer
    from transformers.models.auto.tokenization_auto import REGISTERED_TOKENIZER_CLASSES

    from glm_experiments.models.chatglm.config import ChatGLMConfig
    from glm_experiments.models.chatglm.tokenization import ChatGLMTokenizer
    from glm_experiments.models.tokenizer_loading import TOKENIZER_CLASSES

    AutoTokenizer.register(  # type: ignore[no-untyped-call]
        ChatGLMConfig, ChatGLMTokenizer, exist_ok=True
    )
    REGISTERED_TOKENIZER_CLASSES.update({each.__name__: each for each in TOKENIZER_CLASSES})


class AutoModuleFinder(importlib.abc.MetaPathFinder):
    """Registers after the imports of transformers' auto modules.

    Not at the end of their own: other modules, of transformers and of this package, import them
    half-way, when nothing that uses those could be imported. The end of the outermost import is
    soon enough.
    """

    def __init__(self) -> None:
        self.depth = 0
        self.pending: dict[str, Callable[[], None]] = {
            _AUTO + "configuration_auto": register_config,
            _AUTO + "modeling_auto": register_models,
            _AUTO + "tokenization_auto": register_tokenizers,
        }

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith(("transformers.", "glm_experiments.")):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                self.depth += 1
                try:
                    execute(module)
                finally:
                    self.depth -= 1
                self.register_imported()

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    def register_imported(self) -> None:
        """Register what can be; leave when all is done."""
        for name in [name for name in self.pending if name in sys.modules and not self.depth]:
            # Importing our own modules comes here again.
            register = self.pending.pop(name, None)
            if register is not None:
                register()
        if not self.pending and self in sys.meta_path:
            sys.meta_path.remove(self)


def install_hook() -> None:
    """Register now with what is imported already, and later with the rest."""
    if not any(isinstance(finder, AutoModuleFinder) for finder in sys.meta_path):
        finder = AutoModuleFinder()
        sys.meta_path.insert(0, finder)
        finder.register_imported()
