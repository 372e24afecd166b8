"""Answers: the token that ends them, where generation stops, and back to text."""

import pytest

from glm_experiments.data.answers import decode_answer, encode_answer, stop_token_ids
from tests.data.talks import PAIRS
from tests.tiny_tokenizers import tiny_tokenizer


@pytest.mark.parametrize(
    ("prompt_format", "generation", "text"),
    [
        ("chatglm", "chatglm", "再见<eop>"),
        ("chatglm2", "chatglm2", "再见</s>"),
        ("chatglm3", "chatglm3", "\n 再见</s>"),
        ("glm4", "glm4", "\n再见<|user|>"),
        ("alpaca", "chatglm3", "再见</s>"),
        ("alpaca", "glm4", "再见<|endoftext|>"),
    ],
)
def test_an_answer_ends_as_its_format_says(prompt_format, generation, text):
    tokenizer = tiny_tokenizer(generation)
    ids = encode_answer(tokenizer, "再见", prompt_format=prompt_format)
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize(
    ("prompt_format", "generation", "names"),
    [
        ("chatglm", "chatglm", ["<eop>"]),
        ("chatglm2", "chatglm2", ["</s>"]),
        ("chatglm3", "chatglm3", ["</s>", "<|user|>", "<|observation|>"]),
        ("glm4", "glm4", ["<|endoftext|>", "<|user|>", "<|observation|>"]),
        ("alpaca", "chatglm", ["<eop>"]),
    ],
)
def test_generation_stops_at_the_tokens_of_the_format(prompt_format, generation, names):
    tokenizer = tiny_tokenizer(generation)
    stops = stop_token_ids(tokenizer, prompt_format=prompt_format)
    assert tokenizer.convert_ids_to_tokens(stops) == names


@pytest.mark.parametrize(("prompt_format", "generation"), PAIRS)
def test_a_generated_answer_is_read_back_up_to_its_stop(prompt_format, generation):
    tokenizer = tiny_tokenizer(generation)
    ids = encode_answer(tokenizer, "再见 😀", prompt_format=prompt_format)
    assert decode_answer(tokenizer, ids, prompt_format=prompt_format) == "再见 😀"
    assert decode_answer(tokenizer, ids + ids, prompt_format=prompt_format) == "再见 😀"
    shown = ""
    for length in range(len(ids)):
        text = decode_answer(tokenizer, ids[:length], prompt_format=prompt_format)
        assert "\ufffd" not in text
        assert text.startswith(shown)
        shown = text
