"""Nested keys and flat ones."""

from glm_experiments.nesting import flatten, flatten_values

TREE = {"tuner": {"r": 8, "name": "lora"}, "model": {"geometry": {}}, "seed": 0}


def test_sections_come_before_what_is_in_them():
    assert list(flatten(TREE).items()) == [
        ("tuner", TREE["tuner"]),
        ("tuner.r", 8),
        ("tuner.name", "lora"),
        ("model", {"geometry": {}}),
        ("model.geometry", {}),
        ("seed", 0),
    ]


def test_values_alone_have_no_sections():
    assert flatten_values(TREE, separator="/") == {"tuner/r": 8, "tuner/name": "lora", "seed": 0}
    assert flatten_values({}) == {}
