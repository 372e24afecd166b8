"""P-Tuning v2 against what the published code recorded."""

from typing import Any

import pytest
import torch

from glm_experiments.tuners import fold_projection, load_adapter, save_adapter
from glm_experiments.tuners.prefix_attention import Prefix
from tests.shared_data import needs_shared
from tests.tuners.golden import CASES, FAMILIES, load_base, load_case, write_published
from tests.tuners.tiny_models import build_glm

pytestmark = needs_shared


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    return {
        (family, case): write_published(folder / f"{family}-{case}", family=family, case=case)
        for family in FAMILIES
        for case in CASES
    }


def make_trainable(model: Any) -> None:
    """A loaded prefix is for use; here its gradients are wanted."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("prefix" in name)


def gradients(model: Any) -> dict[str, torch.Tensor]:
    """Gradients by the published names after `transformer.prefix_encoder.`."""
    prefixes = [module for module in model.modules() if isinstance(module, Prefix)]
    encoder = getattr(model.base_model, "prefix_encoder", None)
    if encoder is None:
        # (2, kv heads, tokens, head_dim) of each layer -> (tokens, all layers' keys and values)
        parts = [each.weight.grad.permute(2, 0, 1, 3).flatten(1) for each in prefixes]
        return {"embedding.weight": torch.cat(parts, dim=1)}
    return {
        "embedding.weight": encoder.embedding.weight.grad,
        "trans.0.weight": encoder.trans[0].weight.grad,
        "trans.0.bias": encoder.trans[0].bias.grad,
        "trans.2.weight": torch.cat([each.weight.grad for each in prefixes]),
        "trans.2.bias": torch.cat([each.bias.grad for each in prefixes]),
    }


def assert_close(actual: torch.Tensor, expected: torch.Tensor, *, share: float) -> None:
    """Within a share of the largest expected value."""
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= share * expected.abs().max()


def real_tokens(case: dict[str, torch.Tensor]) -> torch.Tensor:
    """(batch, length), True where a token is no padding."""
    return torch.arange(case["input_ids"].shape[1])[None] < case["length"][:, None]


@pytest.mark.parametrize("checkpointed", [False, True], ids=["plain", "checkpointed"])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("case_name", CASES)
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_logits_and_gradients(published, family, case_name, implementation, checkpointed):
    model = load_adapter(
        load_base(family, attn_implementation=implementation), published[family, case_name]
    )
    make_trainable(model)
    if checkpointed:
        model.train()  # the prefix of a loaded adapter has no dropout
        model.gradient_checkpointing_enable()
    case = load_case(family, case_name)
    output = model(input_ids=case["input_ids"], labels=case["labels"], use_cache=False)
    output.loss.backward()
    is_real = real_tokens(case)
    torch.testing.assert_close(output.loss, case["loss"], rtol=1e-4, atol=0)
    assert_close(output.logits[is_real], case["logits"][is_real], share=2e-5)
    for name, gradient in gradients(model).items():
        expected = case[f"grad.transformer.prefix_encoder.{name}"]
        assert_close(gradient, expected, share=1e-4)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("case_name", CASES)
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens(published, family, case_name, implementation):
    model = load_adapter(
        load_base(family, attn_implementation=implementation), published[family, case_name]
    )
    case = load_case(family, case_name)
    prompt = case["generate_input_ids"]
    tokens = model.generate(prompt, do_sample=False, max_new_tokens=12)
    assert tokens.tolist() == case["greedy"].tolist()
    if case_name == "prefix_proj":
        tokens = fold_projection(model).generate(prompt, do_sample=False, max_new_tokens=12)
        assert tokens.tolist() == case["greedy"].tolist()


def test_a_published_prefix_of_another_base_is_refused_with_both_names(published):
    model = build_glm()
    model.name_or_path = "second/base"
    with pytest.raises(ValueError, match="the model wants") as error:
        load_adapter(model, published["chatglm2", "prefix"])
    assert "chatglm2-prefix" in str(error.value)
    assert "second/base" in str(error.value)


@pytest.mark.parametrize("case_name", CASES)
def test_a_published_prefix_is_saved_as_ours(published, tmp_path, case_name):
    model = load_adapter(load_base("chatglm3"), published["chatglm3", case_name])
    save_adapter(model, tmp_path, prompt_format="chatglm3", base="THUDM/chatglm3-6b")
    again = load_adapter(load_base("chatglm3"), tmp_path)
    input_ids = load_case("chatglm3", case_name)["input_ids"]
    assert torch.equal(again(input_ids=input_ids).logits, model(input_ids=input_ids).logits)
    # The golden folders hold the same shapes: only the weights tell them apart.
    with pytest.raises(ValueError, match="its weights are others"):
        load_adapter(load_base("chatglm2"), tmp_path)


def test_a_broken_published_prefix_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"pre_seq_len": 4}')
    torch.save(
        {"transformer.prefix_encoder.trans.0.bias": torch.zeros(4)}, tmp_path / "pytorch_model.bin"
    )
    with pytest.raises(ValueError, match=r"holds trans\.0\.bias under transformer\.prefix_encoder"):
        load_adapter(build_glm(), tmp_path)
