"""Settings of the published models: rotary bases, sizes, what a config.json turns into."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from glm_experiments.models import load_model
from glm_experiments.models.published import chatglm2_layout, chatglm_layout
from glm_experiments.models.published.layout_finding import find_layout
from tests.models.tiny_checkpoints import PUBLISHED, write_native, write_published

FULL = PUBLISHED | {
    "num_layers": 28,
    "padded_vocab_size": 65024,
    "hidden_size": 4096,
    "ffn_hidden_size": 13696,
    "kv_channels": 128,
    "num_attention_heads": 32,
}
GLM_4 = FULL | {
    "num_layers": 40,
    "padded_vocab_size": 151552,
    "layernorm_epsilon": 1.5625e-07,
    "eos_token_id": [151329, 151336, 151338],
    "pad_token_id": 151329,
}
VERSION_1 = {
    "model_type": "chatglm",
    "vocab_size": 130528,
    "hidden_size": 4096,
    "num_layers": 28,
    "num_attention_heads": 32,
    "inner_hidden_size": 16384,
    "layernorm_epsilon": 1e-05,
    "bos_token_id": 130004,
    "eos_token_id": 130005,
    "max_sequence_length": 2048,
    "position_encoding_2d": True,
}


@pytest.mark.parametrize(
    ("config", "billions"),
    [
        (chatglm_layout.build_config(VERSION_1, name="chatglm-6b"), 6.173),
        (chatglm2_layout.build_config(FULL, name="chatglm2-6b"), 6.244),
        (chatglm2_layout.build_config(GLM_4, name="glm-4-9b"), 9.400),
    ],
    ids=["version 1", "version 2", "GLM-4"],
)
def test_full_size_models_have_the_published_number_of_parameters(config, billions):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert round(model.num_parameters() / 1e9, 3) == billions


def test_glm4_settings():
    config = chatglm2_layout.build_config(GLM_4 | {"rope_ratio": 500}, name="glm-4-9b-chat")
    assert config.rope_parameters["rope_theta"] == 5_000_000
    assert config.eos_token_id == [151329, 151336, 151338]
    assert (config.pad_token_id, config.rms_norm_eps) == (151329, 1.5625e-07)
    assert config.num_hidden_layers == 40


@pytest.mark.parametrize("ratio", [1, 50, 500, 10000])
def test_rope_ratio_multiplies_the_base(tmp_path, ratio):
    """As the long variants of ChatGLM3 and GLM-4 (-1m: 10000) compute their table."""
    model = load_model(write_published(tmp_path, rope_ratio=ratio))
    expected = 1.0 / ((10000 * ratio) ** (torch.arange(0, 4, 2, dtype=torch.float) / 4))
    assert torch.equal(model.model.rotary_emb.inv_freq, expected)


@pytest.mark.parametrize("settings", [{}, {"_name_or_path": "THUDM/chatglm2-6b-32k"}])
def test_rope_ratio_of_chatglm2_32k_divides_the_positions(tmp_path, settings):
    folder = tmp_path / ("elsewhere" if settings else "chatglm2-6b-32k-int4")
    model = load_model(write_published(folder, rope_ratio=16, **settings))
    plain = load_model(write_published(tmp_path / "plain"))
    positions = torch.arange(40)[None]
    inputs = torch.zeros(1, 40, 4)
    long, short = (each.model.rotary_emb for each in (model, plain))
    for found, expected in zip(long(inputs, positions), short(inputs, positions / 16), strict=True):
        torch.testing.assert_close(found, expected)
    assert torch.equal(model.model.rotary_emb.inv_freq * 16, plain.model.rotary_emb.inv_freq)


def misspell(folder, key, wrong):
    """Give a key of config.json another name."""
    settings = json.loads((folder / "config.json").read_text())
    settings[wrong] = settings.pop(key)
    (folder / "config.json").write_text(json.dumps(settings))


def test_a_misspelt_key_is_warned_of_once(tmp_path, caplog):
    write_published(tmp_path)
    find_layout(tmp_path, name="a")
    assert caplog.text == ""
    misspell(tmp_path, "add_qkv_bias", "add_qkv_bais")
    for _ in range(2):
        find_layout(tmp_path, name="a")
    assert caplog.text.count("add_qkv_bais, which nothing reads; if add_qkv_bias is meant") == 1
    misspell(tmp_path, "layernorm_epsilon", "layernorm_epsilom")
    with pytest.raises(ValueError, match=r"lacks 'layernorm_epsilon'.*is layernorm_epsilom meant"):
        find_layout(tmp_path, name="a")


def test_a_misspelt_key_of_a_native_model_is_warned_of(tmp_path, caplog):
    write_native(tmp_path)
    find_layout(tmp_path, name="a")
    assert caplog.text == ""
    misspell(tmp_path, "rms_norm_eps", "rms_norm_esp")
    find_layout(tmp_path, name="a")
    assert "has rms_norm_esp, which nothing reads; if rms_norm_eps is meant" in caplog.text
    assert "that is 1.5625e-07 now" in caplog.text


def test_weights_that_other_software_quantised_are_refused_by_that_name(tmp_path):
    folder = write_published(tmp_path, quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(ValueError, match=r"a quantization_config \(gptq\): weights that other"):
        load_model(folder)
