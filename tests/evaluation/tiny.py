"""A tiny model and a tokenizer of single characters, made in memory."""

from __future__ import annotations

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import GlmConfig, GlmForCausalLM, PreTrainedTokenizerFast

from glm_experiments.data.collation import Collator

CHARACTERS = [chr(code) for code in range(32, 127)] + ["\n"]
PAD, END = 0, 1


def build_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = ["<pad>", "</s>", *CHARACTERS]
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(vocabulary)}, "<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>")


def build_model(seed: int = 0) -> GlmForCausalLM:
    torch.manual_seed(seed)
    config = GlmConfig(
        vocab_size=2 + len(CHARACTERS),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        pad_token_id=PAD,
        eos_token_id=END,
    )
    return GlmForCausalLM(config)


collate = Collator(PAD)
