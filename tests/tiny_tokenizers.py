"""Small real tokenizers of every generation, made on the spot: tests on them run anywhere."""

import base64
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from glm_experiments.models import load_tokenizer
from glm_experiments.models.tokenizers.tokenizer_training import build_tokenizer_files

TEXTS = ["您好，你是谁？我是助手。", "Who are you? I am an assistant.", "问：答：再见世界 sop"] * 20
SIZES = {"chatglm": 490, "chatglm3": 400}
RANKS = [bytes([byte]) for byte in range(256)] + [
    *(b"he", b"ll", b"hell", b"hello", b" w", "你".encode()[:2], "你".encode(), b"\n\n", b"12"),
]
"""Ranks as in GLM-4's tokenizer.model: bytes, then merges."""


def write_rank_file(folder: Path) -> Path:
    """GLM-4's `tokenizer.model` in small; the special tokens get the ids behind it."""
    lines = [b"%s %d\n" % (base64.b64encode(token), rank) for rank, token in enumerate(RANKS)]
    file = folder / "tokenizer.model"
    file.write_bytes(b"".join(lines))
    return file


@cache
def tiny_folder(generation: str) -> Path:
    """A folder with the tokenizer files of a generation."""
    folder = Path(tempfile.mkdtemp(prefix=f"{generation}-"))
    if generation == "glm4":
        write_rank_file(folder)
        return folder
    like: Any = "chatglm" if generation == "chatglm" else "chatglm3"
    build_tokenizer_files(TEXTS, vocabulary_size=SIZES[like], folder=folder, generation=like)
    if generation == "chatglm2":
        settings = {"tokenizer_class": "ChatGLM2Tokenizer"}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@cache
def tiny_tokenizer(generation: str) -> Any:
    """The tokenizer of a generation: chatglm, chatglm2, chatglm3 or glm4."""
    return load_tokenizer(tiny_folder(generation))
