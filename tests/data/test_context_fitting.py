"""What a cut leaves of a sample that is longer than the context."""

import pytest

from glm_experiments.data.context_fitting import fit_context
from glm_experiments.data.conversations import Message
from glm_experiments.data.prompt_formats import FORMS
from glm_experiments.data.prompts import Encoded, encode_conversation
from tests.data.talks import ONE, PAIRS, talk
from tests.tiny_tokenizers import tiny_tokenizer


@pytest.mark.parametrize(("prompt_format", "generation"), PAIRS)
@pytest.mark.parametrize("context_length", [16, 24, 40])
def test_a_cut_takes_the_middle_of_the_context(prompt_format, generation, context_length):
    tokenizer = tiny_tokenizer(generation)
    question = "您好 Who are you " * 20
    # With history, so that version 1 has its cue too.
    (whole,) = encode_conversation(
        tokenizer,
        talk(*ONE, Message("assistant", "a"), Message("user", question), Message("assistant", "b")),
        prompt_format=prompt_format,
        train_on="last_turn",
    )
    fitted, num_cut = fit_context(whole, context_length=context_length)
    assert num_cut == len(whole.input_ids) - context_length > 0
    assert len(fitted.input_ids) == len(fitted.is_trained) == context_length
    num_trained = sum(whole.is_trained)
    tail = whole.cue_length + num_trained
    assert fitted.input_ids[-tail:] == whole.input_ids[-tail:]
    assert fitted.input_ids[:2] == whole.input_ids[:2]
    assert sum(fitted.is_trained) == num_trained
    # The cue is there: no more than its own tokens is kept besides the answer.
    cue = FORMS[prompt_format].cue.rstrip() if hasattr(FORMS[prompt_format], "cue") else ""
    assert cue in tokenizer.decode(fitted.input_ids[-tail:])
    assert fit_context(fitted, context_length=context_length) == (fitted, 0)


def test_a_cut_leaves_numbered_tokens_as_expected():
    encoded = Encoded([*range(100, 120), 1, 2, 3], [False] * 20 + [True] * 3, cue_length=4)
    fitted, num_cut = fit_context(encoded, context_length=13)
    assert fitted.input_ids == [100, 101, 102, 103, 104, 115, 116, 117, 118, 119, 1, 2, 3]
    assert (num_cut, sum(fitted.is_trained)) == (10, 3)
    fitted, _ = fit_context(encoded, context_length=8)
    assert fitted.input_ids == [100, 116, 117, 118, 119, 1, 2, 3]
    fitted, _ = fit_context(encoded, context_length=5)
    assert fitted.input_ids == [116, 117, 118, 119, 1]
    with pytest.raises(ValueError, match=r"context_length=4 cannot hold the answer cue \(4"):
        fit_context(encoded, context_length=4)


def test_an_earlier_answer_that_was_cut_through_is_not_trained():
    is_trained = [False, *[True] * 10, False, False, True, True]
    encoded = Encoded(list(range(15)), is_trained, cue_length=1)
    fitted, num_cut = fit_context(encoded, context_length=10)
    assert num_cut == 5
    assert fitted.input_ids == [0, 1, 2, 3, 9, 10, 11, 12, 13, 14]
    assert fitted.is_trained == [False, True, True, True, *[False] * 4, True, True]
