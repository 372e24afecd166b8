"""Makes the package's classes known to transformers' Auto* classes, as soon as those exist.

`install_hook` imports nothing, and costs nothing until transformers' auto modules are imported.
The only module that touches the library's private tables.
"""

from glm_experiments.models.import_watching import call_after_imports

_AUTO = "transformers.models.auto."


def register_config() -> None:
    """`AutoConfig` for model_type chatglm; a second call changes nothing."""
    from transformers import AutoConfig

    from glm_experiments.models.architectures.chatglm.config import ChatGLMConfig

    AutoConfig.register(ChatGLMConfig.model_type, ChatGLMConfig, exist_ok=True)


def register_models() -> None:
    """`AutoModel` and `AutoModelForCausalLM` for ChatGLM-6B, with its config.

    By name too: from its tables of names the library tells what is a causal language model, which
    decides about shifted labels under the Trainer's label smoothing and about pipelines.
    """
    from transformers import AutoModel, AutoModelForCausalLM
    from transformers.models.auto import modeling_auto

    from glm_experiments.models.architectures.chatglm.config import ChatGLMConfig
    from glm_experiments.models.architectures.chatglm.modeling import (
        ChatGLMForCausalLM,
        ChatGLMModel,
    )
    from glm_experiments.models.auto_loading import PublishedForCausalLM

    register_config()
    AutoModel.register(ChatGLMConfig, ChatGLMModel, exist_ok=True)
    AutoModelForCausalLM.register(ChatGLMConfig, PublishedForCausalLM, exist_ok=True)
    for names, model in (
        (modeling_auto.MODEL_MAPPING_NAMES, ChatGLMModel),
        (modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, ChatGLMForCausalLM),
    ):
        names[ChatGLMConfig.model_type] = model.__name__


def register_tokenizers() -> None:
    """`AutoTokenizer` for ChatGLM-6B, and for all tokenizers by the name in their files."""
    from transformers import AutoTokenizer
    from transformers.models.auto.tokenization_auto import REGISTERED_TOKENIZER_CLASSES

    from glm_experiments.models.architectures.chatglm.config import ChatGLMConfig
    from glm_experiments.models.tokenizers.chatglm_tokenizer import ChatGLMTokenizer
    from glm_experiments.models.tokenizers.tokenizer_loading import TOKENIZER_CLASSES

    AutoTokenizer.register(  # type: ignore[no-untyped-call]
        ChatGLMConfig, ChatGLMTokenizer, exist_ok=True
    )
    REGISTERED_TOKENIZER_CLASSES.update({each.__name__: each for each in TOKENIZER_CLASSES})


def install_hook() -> None:
    """Register now with what is imported already, and later with the rest."""
    call_after_imports(
        {
            _AUTO + "configuration_auto": register_config,
            _AUTO + "modeling_auto": register_models,
            _AUTO + "tokenization_auto": register_tokenizers,
        },
        packages=("transformers", "glm_experiments.models"),
    )
