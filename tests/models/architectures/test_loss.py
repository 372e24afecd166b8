import copy
import inspect

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch import nn
from transformers import Glm4Config, Glm4ForCausalLM, GlmConfig, GlmForCausalLM

from glm_experiments.models.architectures import loss
from glm_experiments.models.architectures.loss import apply_label_only_loss, sum_loss
from tests.models.architectures.chatglm.tiny_chatglm import build_model, pad, sample


def build(name: str):
    if name == "chatglm":
        return build_model()
    settings = {
        "vocab_size": 99,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "pad_token_id": 3,
        "eos_token_id": 2,
    }
    torch.manual_seed(0)
    if name == "glm":
        return GlmForCausalLM(GlmConfig(**settings)).eval()
    return Glm4ForCausalLM(Glm4Config(**settings)).eval()


def batch() -> dict[str, torch.Tensor]:
    ids, mask = pad([sample(4, 9), sample(2, 3, seed=1), sample(7, 2, seed=2)], side="right")
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :4] = -100
    rows, columns = (labels[:, 1:] != -100).nonzero(as_tuple=True)
    positions = rows * ids.shape[1] + columns
    return {"input_ids": ids, "labels": labels, "label_positions": positions}


def train(model: nn.Module, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    output = model(**inputs)
    output.loss.backward()
    return {"loss": output.loss.detach()} | {
        name: each.grad.clone() for name, each in model.named_parameters()
    }


@pytest.mark.parametrize("num_items", [None, 40, torch.tensor(40)])
@pytest.mark.parametrize("name", ["chatglm", "glm", "glm4"])
def test_loss_and_gradients_are_those_of_all_logits(name, num_items, monkeypatch):
    monkeypatch.setattr(loss, "PIECE_LENGTH", 3)
    model = build(name)
    inputs = batch()
    positions = inputs.pop("label_positions")
    assert len(positions) == 21
    expected = train(model, **inputs, num_items_in_batch=num_items)
    found = train(
        apply_label_only_loss(model),
        **inputs,
        label_positions=positions,
        num_items_in_batch=num_items,
    )
    for key, each in expected.items():
        torch.testing.assert_close(found[key], each, rtol=1e-4, atol=1e-6)


def test_logits_are_made_for_labelled_rows_in_pieces_alone(monkeypatch):
    model = apply_label_only_loss(build("chatglm"))
    rows: list[int] = []
    model.lm_head.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    monkeypatch.setattr(loss, "PIECE_LENGTH", 8)
    with torch.no_grad():
        output = model(**batch())
    assert output.logits is None
    assert output.past_key_values is None
    assert rows == [11, 10]


def test_pieces_have_at_least_their_length():
    sizes: list[int] = []
    head = nn.Linear(4, 7)
    head.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    for count in (1, 511, 1023, 1024, 2100):
        with torch.no_grad():
            sum_loss(head, torch.randn(count, 4), torch.zeros(count, dtype=torch.long))
    assert sizes == [1, 511, 1023, 512, 512, 525, 525, 525, 525]


def test_no_labels_train_nothing():
    model = apply_label_only_loss(build("chatglm"))
    inputs = batch() | {"label_positions": torch.tensor([], dtype=torch.long)}
    found = train(model, **inputs, num_items_in_batch=torch.tensor(5))
    assert all(each.abs().max() == 0 for each in found.values())


def test_without_label_positions_the_model_is_what_it_was():
    plain = build("glm")
    model = apply_label_only_loss(copy.deepcopy(plain))
    inputs = batch()
    del inputs["label_positions"]
    expected, found = plain(**inputs), model(**inputs)
    assert found.logits.equal(expected.logits)
    assert found.loss.equal(expected.loss)
    assert isinstance(model, GlmForCausalLM)
    assert type(model).__name__ == "GlmForCausalLM"
    assert type(apply_label_only_loss(model)) is type(model)
    parameters = inspect.signature(model.forward).parameters
    assert {*inspect.signature(plain.forward).parameters, "label_positions"} <= parameters.keys()
    generated = model.generate(inputs["input_ids"][:, :4], max_new_tokens=3, do_sample=False)
    assert generated.shape == (3, 7)


def test_copies_and_replicas_compute_with_their_own_weights():
    model = apply_label_only_loss(build("chatglm"))
    other = copy.deepcopy(model)
    replica = model._replicate_for_data_parallel()
    with torch.no_grad():
        before = model(**batch()).loss
        model.transformer.final_layernorm.weight.zero_()
        assert other(**batch()).loss.equal(before)
        assert not model(**batch()).loss.equal(before)
    assert type(replica).forward is type(model).forward
    assert "forward" not in vars(replica)


def test_hooks_that_move_inputs_stay():
    model = build("chatglm")
    inputs = batch()
    with torch.no_grad():
        expected = apply_label_only_loss(copy.deepcopy(model))(**inputs).loss
        add_hook_to_module(model, AlignDevicesHook(io_same_device=True))
        found = apply_label_only_loss(model)(**inputs)
    assert found.logits is None
    assert found.loss.equal(expected)
