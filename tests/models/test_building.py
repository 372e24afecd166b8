"""Models with fresh weights."""

import pytest
import torch

from glm_experiments.models import build_model, check_vocabulary, load_tokenizer
from tests.tiny_tokenizers import tiny_folder

GEOMETRY = {
    "model_type": "glm",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 70,
    "pad_token_id": 0,
    "eos_token_id": 2,
}


def build(*, seed=0, dtype=torch.float32, **changes):
    return build_model({**GEOMETRY, **changes}, tokenizer=None, dtype=dtype, seed=seed)


def test_a_seed_means_the_same_weights_and_leaves_the_generator_alone():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, again, other = build(seed=1), build(seed=1), build(seed=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.lm_head.weight, again.lm_head.weight)
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)


def test_config_has_the_geometry():
    model = build(dtype=torch.bfloat16)
    assert type(model).__name__ == "GlmForCausalLM"
    assert model.config.vocab_size == 70
    assert model.config.pad_token_id == 0
    assert model.generation_config.eos_token_id == 2
    assert model.model.layers[1].self_attn.k_proj.weight.shape == (16, 32)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert not model.training


def test_unknown_fields_and_architectures_are_refused_by_name():
    with pytest.raises(ValueError, match="num_layer, which GlmConfig does not"):
        build(num_layer=3)
    with pytest.raises(ValueError, match=r"model_type is 'bert'; type one of glm, glm4, chatglm"):
        build(model_type="bert")
    with pytest.raises(ValueError, match="hidden_size=30 is not a multiple"):
        build(hidden_size=30)


def test_vocabulary_comes_from_the_tokenizer():
    geometry = {key: value for key, value in GEOMETRY.items() if not key.endswith("_id")}
    del geometry["vocab_size"]
    tokenizer = load_tokenizer(tiny_folder("chatglm3"))
    model = build_model(geometry, tokenizer=tokenizer, dtype=torch.float32, seed=0)
    check_vocabulary(tokenizer, model.config)
    assert model.config.vocab_size == max(tokenizer.get_vocab().values()) + 1
    assert model.config.pad_token_id == tokenizer.pad_token_id
