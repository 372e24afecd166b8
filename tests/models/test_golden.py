"""Every published layout behaves as the original code was recorded to behave."""

from functools import cache
from typing import Any

import pytest
import torch

from glm_experiments.models import load_model
from tests.models.golden import (
    GOLDEN,
    QUANTIZED,
    WHOLE,
    largest_difference,
    load_case,
    native_gradients,
)
from tests.shared_data import needs_shared

pytestmark = needs_shared
IMPLEMENTATIONS = ("eager", "sdpa")


@cache
def load(folder: str, attn_implementation: str) -> Any:
    return load_model(GOLDEN / folder, dtype=torch.float32, attn_implementation=attn_implementation)


def real_tokens(case: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.arange(case["input_ids"].shape[1]) < case["length"][:, None]


@pytest.mark.parametrize("attn_implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("folder", [*WHOLE, *QUANTIZED])
def test_single_sample(folder, attn_implementation):
    model, case = load(folder, attn_implementation), load_case(folder, "single")
    with torch.no_grad():
        found = model(input_ids=case["input_ids"], labels=case["labels"])
    assert largest_difference(found.logits, case["logits"]) < 2e-5
    assert float(found.loss.detach()) == pytest.approx(float(case["loss"]), rel=1e-4)


@pytest.mark.parametrize("attn_implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("folder", [*WHOLE, *QUANTIZED])
def test_training_batch(folder, attn_implementation):
    model, case = load(folder, attn_implementation), load_case(folder, "right_padded")
    model.zero_grad()
    found = model(input_ids=case["input_ids"], labels=case["labels"])
    found.loss.backward()
    real = real_tokens(case) if "length" in case else torch.ones_like(case["input_ids"]).bool()
    assert largest_difference(found.logits[real], case["logits"][real]) < 2e-5
    assert float(found.loss.detach()) == pytest.approx(float(case["loss"]), rel=1e-4)
    gradients = native_gradients(folder, case)
    assert bool(gradients) == (folder in WHOLE)
    for name, recorded in gradients.items():
        assert largest_difference(model.get_parameter(name).grad, recorded) < 1e-4, name


@pytest.mark.parametrize("attn_implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("folder", WHOLE)
def test_generation_batch(folder, attn_implementation):
    model, case = load(folder, attn_implementation), load_case(folder, "left_padded")
    num_padding = case["input_ids"].shape[1] - case["length"]
    mask = (torch.arange(case["input_ids"].shape[1]) >= num_padding[:, None]).long()
    with torch.no_grad():
        found = model(input_ids=case["input_ids"], attention_mask=mask).logits
    real = mask.bool()
    assert largest_difference(found[real], case["logits"][real]) < 2e-5
    assert generate(model, folder, case["input_ids"], attention_mask=mask).equal(case["greedy"])


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("folder", WHOLE)
def test_generation_of_one(folder, use_cache):
    case = load_case(folder, "generate_one")
    mask = torch.ones_like(case["input_ids"])
    found = generate(
        load(folder, "sdpa"), folder, case["input_ids"], attention_mask=mask, use_cache=use_cache
    )
    assert found.equal(case["greedy"])


def generate(model: Any, folder: str, input_ids: torch.Tensor, **options: Any) -> torch.Tensor:
    """Twelve tokens, the likeliest each; the recording of version 1 has no stop token."""
    stop = {"eos_token_id": None} if folder == "chatglm" else {}
    return model.generate(input_ids, max_new_tokens=12, do_sample=False, **stop, **options)
