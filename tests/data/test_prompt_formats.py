"""The prompt formats: which there are, and how a question is shown to a reader."""

import pytest

from glm_experiments.config import PromptFormat
from glm_experiments.data.prompt_formats import FORMS, describe_prompt, find_form
from tests.data.talks import GENERATIONS, ONE, TWO


def test_every_format_is_tested():
    assert set(GENERATIONS) == set(FORMS)


def test_every_format_can_be_typed():
    assert set(FORMS) == {each.value for each in PromptFormat}


def test_an_unknown_format_is_refused_with_those_known():
    with pytest.raises(ValueError, match="prompt_format=llama is unknown; type one of chatglm, "):
        find_form("llama")


def test_a_question_is_described_for_a_reader():
    assert describe_prompt(ONE, prompt_format="chatglm3") == "您好"
    assert describe_prompt((TWO[2],), prompt_format="chatglm") == "Who\nare you"
    assert describe_prompt((TWO[2],), prompt_format="alpaca") == (
        "Instruction: Who\nInput: are you\nAnswer: "
    )
    assert describe_prompt(TWO, prompt_format="glm4") == (
        "<|user|>\n您好<|assistant|>\n再见<|user|>\nWho\nare you"
    )
    assert describe_prompt(TWO, prompt_format="chatglm").endswith("问：Who\nare you\n答：")
