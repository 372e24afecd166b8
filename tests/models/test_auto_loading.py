"""AutoModelForCausalLM on published ChatGLM folders, once the package is imported."""

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, GlmForCausalLM

from glm_experiments.models import load_model
from glm_experiments.models.architectures.chatglm.modeling import ChatGLMForCausalLM
from tests.models.golden import GOLDEN
from tests.models.tiny_checkpoints import write_published
from tests.shared_data import needs_shared

IDS = torch.tensor([[5, 6, 7, 8, 9]])


def logits(model, ids=IDS):
    with torch.no_grad():
        return model(ids).logits


def test_later_versions_become_native_modules(tmp_path):
    model = AutoModelForCausalLM.from_pretrained(write_published(tmp_path), dtype="float64")
    assert type(model) is GlmForCausalLM
    assert model.dtype is torch.float64
    assert torch.equal(logits(model), logits(load_model(tmp_path, dtype=torch.float64)))
    with pytest.raises(ValueError, match=r"max_memory: the weights of .* are those of ChatGLM2"):
        AutoModelForCausalLM.from_pretrained(tmp_path, max_memory={0: "1GB"})
    with pytest.raises(ValueError, match=r"those of ChatGLM2, ChatGLM3 or GLM-4.*load_model"):
        AutoModel.from_pretrained(tmp_path)


@needs_shared
@pytest.mark.parametrize("name", ["chatglm", "chatglm-int8", "chatglm-int4"])
def test_version_1_is_right_however_it_is_stored(name):
    """Quantised codes were taken for weights, without a word."""
    model = AutoModelForCausalLM.from_pretrained(GOLDEN / name, dtype=torch.float32)
    assert type(model) is ChatGLMForCausalLM
    ids = torch.tensor([[5, 6, 7, 8, 251, 254, 9, 10]])
    expected = load_model(GOLDEN / name, dtype=torch.float32)
    assert torch.equal(logits(model, ids), logits(expected, ids))
    if name != "chatglm":
        with pytest.raises(ValueError, match=r"quantised \(quantization_bit=\d\).*load_model"):
            AutoModel.from_pretrained(GOLDEN / name)
