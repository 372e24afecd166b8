"""How long a sample may be: as long as the model was made for, by its checkpoint's own word."""

import dataclasses
import json

import pytest

from glm_experiments import config
from glm_experiments.models.preparation import check_context_length, find_longest_context
from tests.models.tiny_checkpoints import GEOMETRY, PUBLISHED

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
NATIVE = {"model_type": "glm4", **GEOMETRY, "max_position_embeddings": 32768}
VERSION_1 = {
    **{"model_type": "chatglm", "num_layers": 2, "hidden_size": 32, "num_attention_heads": 4},
    **{"vocab_size": 96, "eos_token_id": 5, "bos_token_id": 4, "max_sequence_length": 2048},
}


@pytest.fixture(scope="module")
def model(composer):
    """A model section, to be given other paths."""
    return config.parse(composer.compose(["model=tiny_glm"])).model


@pytest.mark.parametrize(
    ("settings", "longest"),
    [
        (VERSION_1, 2048),
        (PUBLISHED, 128),
        # The published settings name the whole length; the ratio only says how it is reached.
        (PUBLISHED | {"rope_ratio": 16, "_name_or_path": "THUDM/chatglm2-6b-32k"}, 128),
        (NATIVE, 32768),
        (NATIVE | {"rope_scaling": YARN}, 131072),
        (NATIVE | {"rope_scaling": YARN, "max_position_embeddings": 200000}, 200000),
    ],
)
def test_a_checkpoint_says_how_long_a_context_it_was_made_for(settings, longest, model, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    there = dataclasses.replace(model, path=str(tmp_path))
    assert find_longest_context(there) == longest
    check_context_length(there, longest)
    with pytest.raises(ValueError, match=f"at most {longest} tokens; type data.context_length="):
        check_context_length(there, longest + 1)


def test_a_geometry_says_it_too(composer):
    overrides = ["model=tiny_glm_untrained", "tuner=full"]
    assert find_longest_context(config.parse(composer.compose(overrides)).model) == 2048
    overrides.append("model.geometry.max_position_embeddings=64")
    assert find_longest_context(config.parse(composer.compose(overrides)).model) == 64
