"""Exports of every kind, for other people's software to read, and processes in which it does.

A process that must not know the package runs where it can't be imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import GlmConfig, GlmForCausalLM

from glm_experiments.models import load_model, load_tokenizer
from glm_experiments.models.architectures.chatglm.modeling import ChatGLMForCausalLM
from glm_experiments.models.exporting import write_model
from tests.models.architectures.chatglm.tiny_chatglm import build_config
from tests.tiny_tokenizers import tiny_tokenizer

VERSIONS = {"tiny_chatglm": "1", "chatglm": "1", "chatglm2": "2", "chatglm3": "3", "tiny_glm": "3"}
VERSIONS |= {"glm4": "4"}
CODE = {"trust_remote_code": True}
CHATS = [
    [{"role": "user", "content": "你是谁？"}],
    [{"role": "user", "content": "people say 12 + 30"}],
    [
        {"role": "system", "content": "You are brief."},
        {"role": "user", "content": "Who are you?"},
        {"role": "assistant", "content": "I am."},
        {"role": "user", "content": "再见"},
    ],
]
NUM_NEW_TOKENS = 12
# Run in a process of its own: folders with their options of from_pretrained, chats, and what to
# import first.
READ = """
import json, sys
folders, chats, first, length = json.loads(sys.argv[1])
for name in first:
    __import__(name)
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
for folder, options in folders:
    tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options).eval()
    found = {"ids": [], "again": [], "answers": []}
    for chat in chats:
        options = {"add_generation_prompt": True}
        inputs = tokenizer.apply_chat_template(chat, return_tensors="pt", **options)
        text = tokenizer.apply_chat_template(chat, tokenize=False, **options)
        answer = model.generate(**inputs, max_new_tokens=length, do_sample=False)
        new = answer[0, inputs["input_ids"].shape[1]:].tolist()
        found["ids"].append(inputs["input_ids"][0].tolist())
        found["again"].append(tokenizer(text, add_special_tokens=False)["input_ids"])
        found["answers"].append(new)
    found["texts"] = [tokenizer.decode(ids, skip_special_tokens=True) for ids in found["answers"]]
    found["plain"] = [tokenizer.encode(chat[-1]["content"]) for chat in chats]
    found["known"] = sys.modules.get("glm_experiments") is not None
    print("FOUND" + json.dumps(found))
"""


@cache
def load_kind(kind: str) -> tuple[Any, Any]:
    """A small model and its tokenizer: one that ships with the package, or made on the spot."""
    if kind.startswith("tiny"):
        path = f"package:{kind}"
        return load_model(path, dtype=torch.float32), load_tokenizer(path)
    tokenizer = tiny_tokenizer(kind)
    sizes = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(0)
    if kind == "chatglm":
        special = {
            name: tokenizer.convert_tokens_to_ids(token)
            for name, token in {
                "mask_token_id": "[MASK]",
                "gmask_token_id": "[gMASK]",
                "bos_token_id": "<sop>",
                "eos_token_id": "<eop>",
            }.items()
        }
        return ChatGLMForCausalLM(build_config(**sizes, **special)).eval(), tokenizer
    config = GlmConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.3,
        **sizes,
    )
    return GlmForCausalLM(config).eval(), tokenizer


def export(kind: str, folder: Path) -> Path:
    """Write a kind's model into `folder`, as glm-export does."""
    model, tokenizer = load_kind(kind)
    write_model(model, tokenizer, folder)
    return folder


def read_in_fresh_python(
    folders: Sequence[tuple[Path, dict[str, Any]]], *, first: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """What plain transformers makes of folders, each with its options of from_pretrained, in a
    process that imports `first` before it."""
    pairs = [(str(folder), options) for folder, options in folders]
    arguments = json.dumps([pairs, CHATS, first, NUM_NEW_TOKENS])
    done = run_python(READ, arguments, knows_package="glm_experiments" in first)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND")]
    found: list[dict[str, Any]] = [json.loads(line.removeprefix("FOUND")) for line in lines]
    return found


def run_python(code: str, *arguments: str, knows_package: bool) -> subprocess.CompletedProcess[str]:
    """A fresh Python on this code; knows_package: ours can be imported there."""
    # Where it is installed, too, an import of what is None fails.
    guard = "" if knows_package else "import sys; sys.modules['glm_experiments'] = None\n"
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        [sys.executable, "-c", guard + code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": root if knows_package else ""},
        cwd=tempfile.gettempdir(),
        stdin=subprocess.DEVNULL,
    )
