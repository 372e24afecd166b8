"""The prefix in every attention: packing, padding, caches, masks, dropout, replicas."""

import copy
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import DynamicCache

from glm_experiments.tuners import (
    apply_tuner,
    count_parameters,
    fold_projection,
    load_adapter,
    merge_adapter,
    save_adapter,
    trainable_parameters,
)
from tests.tuners.tiny_models import (
    build_batch,
    build_chatglm,
    build_glm,
    moved,
    p_tuning_config,
    train_steps,
)

variants = pytest.mark.parametrize("projection", [False, True], ids=["prefix", "projected"])
implementations = pytest.mark.parametrize("implementation", ["eager", "sdpa"])


families = pytest.mark.parametrize("build", [build_glm, build_chatglm], ids=["glm", "chatglm"])


def build_tuned(
    *,
    projection: bool = False,
    implementation: str = "sdpa",
    dropout: float = 0.0,
    build: Any = build_glm,
    **changes: Any,
) -> Any:
    model = build(attn_implementation=implementation, **changes)
    config = p_tuning_config(prefix_projection=projection, prefix_dropout=dropout)
    return apply_tuner(model, config)


@variants
def test_exactly_the_prefix_moves(projection):
    model = build_tuned(projection=projection)
    parts = ("weight", "bias") if projection else ("weight",)
    expected = {f"model.layers.{i}.self_attn.prefix.{part}" for i in range(3) for part in parts}
    if projection:
        encoder = "model.prefix_encoder"
        expected |= {f"{encoder}.embedding.weight", f"{encoder}.trans.0.weight"}
        expected |= {f"{encoder}.trans.0.bias"}
    assert set(trainable_parameters(model)) == expected
    assert moved(model, train_steps(model)) == expected
    # Per layer 2 x 2 heads x 8; 4 tokens, or 32 inputs and a bias and the shared 96 -> 32.
    numbers = 3 * 32 * (32 + 1) + 4 * 96 + 32 * (96 + 1) if projection else 3 * 32 * 4
    assert count_parameters(model)[0] == numbers


@variants
def test_the_seed_decides_the_start(projection):
    def start(seed: int) -> list[torch.Tensor]:
        config = p_tuning_config(prefix_projection=projection)
        return [p.detach() for p in apply_tuner(build_glm(), config, seed=seed).parameters()]

    same = [torch.equal(a, b) for a, b in zip(start(3), start(3), strict=True)]
    other = [torch.equal(a, b) for a, b in zip(start(3), start(4), strict=True)]
    assert all(same)
    assert not all(other)


@variants
def test_saved_loaded_and_folded(tmp_path, projection):
    model = build_tuned(projection=projection, dropout=0.5)
    train_steps(model)
    batch = build_batch(seed=9)
    expected = model(**batch).logits
    assert not torch.allclose(expected, build_glm()(**batch).logits, atol=1e-3)
    save_adapter(model, tmp_path / "whole", prompt_format="chatglm3", base="some/base")
    loaded = load_adapter(build_glm(), tmp_path / "whole")
    assert torch.equal(loaded(**batch).logits, expected)
    assert not trainable_parameters(loaded)
    if not projection:
        with pytest.raises(ValueError, match="no prefix with a projection"):
            fold_projection(loaded)
        return
    folded = fold_projection(loaded)
    torch.testing.assert_close(folded(**batch).logits, expected)
    save_adapter(folded, tmp_path / "folded", prompt_format="chatglm3", base="some/base")
    again = load_adapter(build_glm(), tmp_path / "folded")
    assert torch.equal(again(**batch).logits, folded(**batch).logits)
    assert not hasattr(again.model, "prefix_encoder")


def test_a_prefix_is_not_merged():
    with pytest.raises(ValueError, match="no weights of the model to be merged into"):
        merge_adapter(build_tuned())


PROMPTS = [torch.tensor([7, 8, 9, 10, 11, 60, 61]), torch.tensor([20, 21, 60, 61])]


@families
@implementations
@variants
def test_packed_samples_are_as_if_alone(projection, implementation, build):
    model = build_tuned(projection=projection, implementation=implementation, build=build)
    samples = [torch.cat([prompt, torch.tensor([30, 31, 32])]) for prompt in PROMPTS]
    packed = model(
        input_ids=torch.cat(samples)[None],
        position_ids=torch.cat([torch.arange(len(each)) for each in samples])[None],
        use_cache=False,
    ).logits[0]
    alone = [model(input_ids=each[None], use_cache=False).logits[0] for each in samples]
    torch.testing.assert_close(packed, torch.cat(alone), rtol=1e-4, atol=1e-5)


@families
@implementations
@variants
def test_left_padded_generation_is_as_if_alone(projection, implementation, build):
    model = build_tuned(projection=projection, implementation=implementation, build=build)
    settings = {"do_sample": False, "max_new_tokens": 8, "eos_token_id": 1}
    alone = [model.generate(each[None], **settings)[0, len(each) :] for each in PROMPTS]
    padded = torch.stack([PROMPTS[0], torch.nn.functional.pad(PROMPTS[1], (3, 0))])
    mask = torch.tensor([[1] * 7, [0] * 3 + [1] * 4])
    together = model.generate(padded, attention_mask=mask, **settings)[:, 7:]
    assert together.tolist() == [each.tolist() for each in alone]
    without_cache = model.generate(padded, attention_mask=mask, use_cache=False, **settings)[:, 7:]
    assert torch.equal(without_cache, together)


@variants
def test_the_cache_holds_the_sequence_alone(projection):
    model = build_tuned(projection=projection)
    input_ids = build_batch()["input_ids"]
    whole = model(input_ids=input_ids, use_cache=False).logits
    cache = DynamicCache(config=model.config)
    parts = [
        model(input_ids=part, past_key_values=cache).logits for part in input_ids.split(4, dim=1)
    ]
    assert cache.get_seq_length() == 10
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-4, atol=1e-5)


class RecordShapes(TorchDispatchMode):
    """Shapes of every tensor that an operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for each in result if isinstance(result, tuple | list) else (result,):
            if isinstance(each, torch.Tensor):
                self.shapes.add(tuple(each.shape))
        return result


def test_nothing_dense_is_made_where_nothing_is_padded(monkeypatch):
    calls = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def record(query, key, value, **options):
        calls.append((query.shape, key.shape, options["attn_mask"], options["is_causal"]))
        return attend(query, key, value, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", record)
    model = build_tuned()
    # A length that no other dimension has.
    input_ids = torch.randint(3, 64, (2, 23))
    with RecordShapes() as recorded:
        model.train()
        model(input_ids=input_ids, labels=input_ids, use_cache=False).loss.backward()
    # 23 + 4 keys of the 2 key/value heads for as many queries of the 4 heads, causal, no mask.
    assert calls == [((2, 4, 27, 8), (2, 2, 27, 8), None, True)] * 3
    lengths = {23, 27}
    assert not [s for s in recorded.shapes if len(s) > 1 and set(s[-2:]) <= lengths]


def test_dropout_is_of_training_and_of_each_sample():
    model, plain = build_tuned(dropout=0.5), build_tuned()
    input_ids = build_batch()["input_ids"][:1].expand(2, -1)
    assert torch.equal(model(input_ids=input_ids).logits, plain(input_ids=input_ids).logits)
    model.train()
    first, second = model(input_ids=input_ids, use_cache=False).logits
    assert not torch.allclose(first, second, atol=1e-3)


@variants
def test_checkpointing_repeats_the_dropout(projection):
    results = []
    for checkpointed in (False, True):
        model = build_tuned(projection=projection, dropout=0.5).train()
        if checkpointed:
            model.gradient_checkpointing_enable()
        torch.manual_seed(5)
        model(**build_batch(), use_cache=False).loss.backward()
        results.append([each.grad for each in trainable_parameters(model).values()])
    for plain, checkpointed in zip(*results, strict=True):
        torch.testing.assert_close(plain, checkpointed)


@variants
def test_micro_batches_in_flight_keep_their_own_gradients(projection):
    def gradients(*, in_flight: bool) -> list[torch.Tensor]:
        model = build_tuned(projection=projection).train()
        model.gradient_checkpointing_enable()
        losses = []
        for seed in (1, 2):
            losses.append(model(**build_batch(seed=seed), use_cache=False).loss)
            if not in_flight:
                losses[-1].backward()
        if in_flight:
            torch.stack(losses).sum().backward()
        return [each.grad for each in trainable_parameters(model).values()]

    for one, other in zip(gradients(in_flight=True), gradients(in_flight=False), strict=True):
        torch.testing.assert_close(one, other)


@variants
def test_a_replica_uses_its_own_parameters(projection):
    model, batch = build_tuned(projection=projection), build_batch()
    expected = model(**batch).logits
    replica = copy.deepcopy(model)
    assert torch.equal(replica(**batch).logits, expected)
    # As DataParallel does it: the same modules with other tensors in the parameters' places.
    scaled = {name: 0.5 * each for name, each in trainable_parameters(model).items()}
    swapped = torch.func.functional_call(model, scaled, kwargs=batch)
    with torch.no_grad():
        for each in trainable_parameters(replica).values():
            each.mul_(0.5)
    assert torch.equal(swapped.logits, replica(**batch).logits)
    assert not torch.equal(swapped.logits, expected)


@variants
def test_a_float32_prefix_beside_a_bfloat16_base(projection):
    model = build_tuned(projection=projection, dtype=torch.bfloat16)
    assert {each.dtype for each in trainable_parameters(model).values()} == {torch.float32}
    assert model(**build_batch()).logits.dtype is torch.bfloat16
    assert moved(model, train_steps(model)) == set(trainable_parameters(model))


@variants
def test_a_model_without_memory_is_counted_alike(projection):
    with torch.device("meta"):
        planned = build_tuned(projection=projection)
    assert count_parameters(planned) == count_parameters(build_tuned(projection=projection))
    assert all(each.is_meta for each in planned.parameters())


def test_an_attention_without_a_form_for_prefixes_is_refused():
    model = build_glm()
    model.config._attn_implementation_internal = "flash_attention_2"
    with pytest.raises(ValueError, match="one of eager, sdpa, flex_attention"):
        apply_tuner(model, p_tuning_config())


@pytest.mark.slow  # compiles C++
@families
@variants
def test_flex_attention_gives_the_same(projection, build):
    expected = build_tuned(projection=projection, build=build)
    model = build_tuned(projection=projection, implementation="flex_attention", build=build)
    samples = torch.cat(PROMPTS)[None].expand(2, -1)
    positions = torch.cat([torch.arange(len(each)) for each in PROMPTS])[None].expand(2, -1)
    batch = {"input_ids": samples, "position_ids": positions, "use_cache": False}
    with torch.no_grad():
        torch.testing.assert_close(
            model(**batch).logits, expected(**batch).logits, rtol=1e-4, atol=1e-5
        )
        settings = {"do_sample": False, "max_new_tokens": 2, "eos_token_id": 1}
        generated = [each.generate(PROMPTS[0][None], **settings) for each in (model, expected)]
    assert torch.equal(*generated)
