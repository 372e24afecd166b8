"""A path -> the tokenizer of its generation, recognised by the files that lie there."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from glm_experiments.models.published.locations import find_model_folder
from glm_experiments.models.published.settings_files import blame, read_settings
from glm_experiments.models.tokenizers.chatglm3_tokenizer import (
    ChatGLM2Tokenizer,
    ChatGLM3Tokenizer,
)
from glm_experiments.models.tokenizers.chatglm_tokenizer import ChatGLMTokenizer
from glm_experiments.models.tokenizers.glm4_tokenizer import is_rank_file, load_glm4_tokenizer
from glm_experiments.models.tokenizers.sentencepiece_files import load_sentencepiece
from glm_experiments.models.tokenizers.vocabulary_match import check_vocabulary

FILE_PATTERNS = (("*.json", "*.model", "*.jinja"),)
FIRST_RELEASE_IMAGE_TOKENS = 20000
TOKENIZER_CLASSES = (ChatGLMTokenizer, ChatGLM2Tokenizer, ChatGLM3Tokenizer)
"""To be known to AutoTokenizer by their names."""


def load_tokenizer(path: str | Path, *, revision: str | None = None) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a GLM: a folder, a hub id, or `package:NAME`.

    Padding is on the left, as generation needs it.

    Raises:
        ValueError: no tokenizer there, a broken or foreign file, by name, or one of another
            generation than the config.json beside it.
        RuntimeError: the hub is out of reach.
    """
    folder = find_model_folder(path, revision=revision, patterns=FILE_PATTERNS)
    settings = _read_settings(folder / "tokenizer_config.json")
    config = _read_settings(folder / "config.json")
    file = folder / "tokenizer.model"
    tokenizer: PreTrainedTokenizerBase
    with blame(folder):
        if (folder / "ice_text.model").is_file():
            tokenizer = _load_chatglm(folder, settings, config)
        elif file.is_file() and not is_rank_file(file):
            # Before the tokenizer.json of an export, which is for others.
            tokenizer = _find_class(path, settings, config).from_pretrained(folder)
        elif (folder / "tokenizer.json").is_file():
            read_settings(folder / "tokenizer.json")  # tokenizers' own error names no file
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        elif file.is_file():
            tokenizer = load_glm4_tokenizer(folder, settings)
        else:
            raise ValueError(
                f"{folder} holds no tokenizer (ice_text.model, tokenizer.model or "
                "tokenizer.json); copy the published files into it, or give another path or "
                "revision"
            )
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    vocab_size = config.get("padded_vocab_size") or config.get("vocab_size")
    if vocab_size is not None:
        ends = config.get("eos_token_id")
        check_vocabulary(tokenizer, SimpleNamespace(vocab_size=vocab_size, eos_token_id=ends))
    return tokenizer


def _read_settings(file: Path) -> dict[str, Any]:
    return read_settings(file) if file.is_file() else {}


def _load_chatglm(
    folder: Path, settings: Mapping[str, Any], config: Mapping[str, Any]
) -> ChatGLMTokenizer:
    """Version 1. Its first release's files do not say that image tokens come first; the end token
    of the model does."""
    num_image_tokens = settings.get("num_image_tokens")
    if num_image_tokens is None and "eos_token_id" in config:
        file = folder / "ice_text.model"
        pieces = load_sentencepiece(file, wanted_by=ChatGLMTokenizer.generation_name)
        offset = int(config["eos_token_id"]) - int(pieces.piece_to_id("<eop>"))
        num_image_tokens = offset if offset == FIRST_RELEASE_IMAGE_TOKENS else 0
    tokenizer: ChatGLMTokenizer = ChatGLMTokenizer.from_pretrained(
        folder, num_image_tokens=num_image_tokens or 0
    )
    return tokenizer


def _find_class(
    path: str | Path, settings: Mapping[str, Any], config: Mapping[str, Any]
) -> type[ChatGLM2Tokenizer]:
    """Version 2 or 3. Both have one model file; version 3 adds tokens for the roles, which a
    version 2 model never meets, so that it is the answer where nothing tells them apart."""
    if settings.get("tokenizer_class") == ChatGLM2Tokenizer.__name__:
        return ChatGLM2Tokenizer
    if "sop" in (special := settings.get("extra_special_tokens") or ()):  # an export's
        return ChatGLM3Tokenizer if "<|user|>" in special else ChatGLM2Tokenizer
    names = (str(path), str(settings.get("name_or_path")), str(config.get("_name_or_path")))
    if any("chatglm2" in name.lower() for name in names) and "<|user|>" not in str(settings):
        return ChatGLM2Tokenizer
    return ChatGLM3Tokenizer
