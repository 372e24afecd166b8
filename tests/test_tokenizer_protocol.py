"""Every generation's tokenizer has what is used of one. mypy sees how its methods are called, but
misses none: transformers' tokenizers answer for any name."""

import inspect

import pytest

from glm_experiments.tokenizer_protocol import Tokenizer
from tests.tiny_tokenizers import tiny_tokenizer

NAMES = [
    name
    for name, value in vars(Tokenizer).items()
    if value.__doc__ and (inspect.isfunction(value) or isinstance(value, property))
]


@pytest.mark.parametrize("generation", ["chatglm", "chatglm2", "chatglm3", "glm4"])
def test_a_tokenizer_has_what_is_used_of_it(generation):
    assert {"eos_token_id", "__len__", "encode", "save_pretrained"} <= set(NAMES)
    tokenizer = tiny_tokenizer(generation)
    assert [name for name in NAMES if not hasattr(tokenizer, name)] == []
    assert isinstance(tokenizer.pad_token_id, int)
