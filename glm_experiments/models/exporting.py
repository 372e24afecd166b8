"""A model and its tokenizer -> a folder for other people's software, and for ours.

Decides what goes beside the library's own files; which model it is, and why, is not known here.
"""

import logging
from pathlib import Path
from typing import Any

import tokenizers
from transformers import PreTrainedModel

from glm_experiments.models.architectures.chatglm.config import ChatGLMConfig
from glm_experiments.models.architectures.chatglm.modeling import ChatGLMForCausalLM, ChatGLMModel
from glm_experiments.models.own_code import write_own_code
from glm_experiments.models.published.chatglm_layout import add_published_keys
from glm_experiments.models.published.settings_files import read_settings, write_settings
from glm_experiments.models.tokenizers.chatglm3_tokenizer import ChatGLM2Tokenizer
from glm_experiments.models.tokenizers.plain_tokenizer import build_plain_tokenizer
from glm_experiments.models.tokenizers.sentencepiece_tokenizer import SentencePieceTokenizer
from glm_experiments.tokenizer_protocol import Tokenizer

CONFIG, TOKENIZER_CONFIG = "config.json", "tokenizer_config.json"
FLAGS = ("lstrip", "normalized", "rstrip", "single_word", "special")
# How a tokenizer came to be loaded, which says nothing of its copy.
OF_LOADING = ("is_local", "local_files_only")
log = logging.getLogger(__name__)


def write_model(model: PreTrainedModel, tokenizer: Tokenizer, folder: Path) -> str:
    """Write both into `folder`; returns what to type to load them, in words."""
    model.save_pretrained(folder)
    needs_code = write_tokenizer(tokenizer, folder)
    if isinstance(model, ChatGLMForCausalLM):
        write_code_of_version_1(folder)
        needs_code = True
    # safetensors 0.8 lets only the owner read its files; who may read the config may read them.
    for file in folder.glob("*.safetensors"):
        file.chmod((folder / CONFIG).stat().st_mode)
    if needs_code:
        return "from_pretrained with trust_remote_code=True, or after import glm_experiments"
    return "from_pretrained"


def write_code_of_version_1(folder: Path) -> None:
    """The classes that transformers lacks, and the config's keys as they were published."""
    settings = add_published_keys(read_settings(folder / CONFIG))
    settings["auto_map"] = {
        "AutoConfig": write_own_code(ChatGLMConfig, folder),
        "AutoModel": write_own_code(ChatGLMModel, folder),
        "AutoModelForCausalLM": write_own_code(ChatGLMForCausalLM, folder),
    }
    write_settings(folder / CONFIG, settings)


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> bool:
    """Write a tokenizer into `folder`; returns whether it takes code of ours to use it.

    Where `tokenizer.json` says it all, special tokens in a text are read unless
    `split_special_tokens=True` is asked for, as other software expects of it.
    """
    tokenizer.save_pretrained(folder)
    settings = read_settings(folder / TOKENIZER_CONFIG)
    settings = {key: value for key, value in settings.items() if key not in OF_LOADING}
    needs_code = isinstance(tokenizer, SentencePieceTokenizer)
    if isinstance(tokenizer, ChatGLM2Tokenizer):
        try:
            plain = build_plain_tokenizer(tokenizer)
        except ValueError as error:
            log.warning("the exported tokenizer needs trust_remote_code=True: %s", error)
        else:
            plain.save(str(folder / "tokenizer.json"))
            settings = describe_plain(settings, plain)
            needs_code = False
    if needs_code:
        settings["auto_map"] = {"AutoTokenizer": [write_own_code(type(tokenizer), folder), None]}
    elif settings.get("bos_token") is None and "[gMASK]" in tokenizer.get_vocab():
        # What begins with this token has its special tokens: so lm-eval tells a rendered chat.
        settings["bos_token"] = "[gMASK]"
    write_settings(folder / TOKENIZER_CONFIG, settings)
    return needs_code


def describe_plain(settings: dict[str, Any], plain: tokenizers.Tokenizer) -> dict[str, Any]:
    """The settings of a SentencePiece tokenizer as those of its `tokenizer.json`."""
    dropped = ("auto_map", "backend", "bos_token", "split_special_tokens")
    return {
        **{key: value for key, value in settings.items() if key not in dropped},
        "tokenizer_class": "PreTrainedTokenizerFast",
        "added_tokens_decoder": {
            str(index): {flag: getattr(token, flag) for flag in FLAGS} | {"content": token.content}
            for index, token in plain.get_added_tokens_decoder().items()
        },
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "padding_side": "left",
    }
