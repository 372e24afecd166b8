"""The likeliest meant of known words."""

import pytest

from glm_experiments.spelling import nearest_word

ROLES = ("user", "human", "assistant", "observation")


@pytest.mark.parametrize(
    ("word", "meant"),
    [("usr", "user"), ("asistant", "assistant"), ("human", "human"), ("x", None), ("", None)],
)
def test_a_word_is_near_or_none_is(word, meant):
    assert nearest_word(word, ROLES) == meant


def test_what_is_not_alike_enough_is_none():
    assert nearest_word("observer", ROLES) == "observation"
    assert nearest_word("observer", ROLES, cutoff=0.8) is None
    assert nearest_word("zzz", ROLES, cutoff=0) in ROLES
    assert nearest_word("zzz", (), cutoff=0) is None
