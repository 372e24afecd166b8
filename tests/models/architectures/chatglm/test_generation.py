from typing import Any

import pytest
import torch

from tests.models.architectures.chatglm.tiny_chatglm import build_model, pad, sample

PROMPTS = [sample(5, 0, seed=1), sample(2, 0, seed=2), [11, 12, 13], sample(9, 2, seed=3)]
GREEDY = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None}


def generate(model: Any, prompts: list[list[int]], **options: Any) -> list[list[int]]:
    """New tokens."""
    ids, mask = pad(prompts, side="left")
    found = model.generate(ids, attention_mask=mask, **(GREEDY | options))
    return found[:, ids.shape[1] :].tolist()


@pytest.fixture(scope="module")
def model() -> Any:
    return build_model()


@pytest.fixture(scope="module")
def expected(model) -> list[list[int]]:
    """One prompt at a time, all tokens computed anew for each, by `forward` alone."""
    answers = []
    for prompt in PROMPTS:
        tokens = list(prompt)
        for _ in range(GREEDY["max_new_tokens"]):
            with torch.no_grad():
                tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
        answers.append(tokens[len(prompt) :])
    return answers


def test_expected_answers_vary(expected):
    assert len({token for answer in expected for token in answer}) > 4


@pytest.mark.parametrize("attn_implementation", ["sdpa", "eager"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_cache": False},
        {"cache_implementation": "static", "disable_compile": True},
        {"prompt_lookup_num_tokens": 2},
        {"prefill_chunk_size": 3},  # a context cannot come in pieces
    ],
    ids=["cached", "uncached", "static", "lookup", "in-pieces"],
)
def test_left_padded_batch_equals_one_by_one(expected, options, attn_implementation):
    model = build_model(attn_implementation)
    if "prompt_lookup_num_tokens" in options:  # the library does it for one prompt at a time
        assert [generate(model, [each], **options)[0] for each in PROMPTS] == expected
    else:
        assert generate(model, PROMPTS, **options) == expected


def test_cache_is_continued_by_bare_calls(model, expected):
    ids, mask = pad(PROMPTS, side="left")
    answers = []
    with torch.no_grad():
        output = model(ids, attention_mask=mask, use_cache=True)
        for _ in range(GREEDY["max_new_tokens"]):
            tokens = output.logits[:, -1:].argmax(-1)
            answers.append(tokens)
            mask = torch.cat([mask, torch.ones_like(tokens)], dim=1)
            output = model(tokens, attention_mask=mask, past_key_values=output.past_key_values)
    assert torch.cat(answers, dim=1).tolist() == expected


def test_several_tokens_after_a_cache(model):
    ids = torch.tensor([sample(5, 7)])
    with torch.no_grad():
        whole = model(ids).logits
        cache = model(ids[:, :9], use_cache=True).past_key_values
        rest = model(ids[:, 9:], past_key_values=cache).logits
    torch.testing.assert_close(rest, whole[:, 9:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("whole", [True, False])
def test_generation_goes_on_from_a_cache(model, expected, whole):
    ids = torch.tensor([PROMPTS[0]])
    first = model.generate(ids, **(GREEDY | {"max_new_tokens": 4, "return_dict_in_generate": True}))
    tokens = (
        first.sequences if whole else first.sequences[:, first.past_key_values.get_seq_length() :]
    )
    mask = torch.ones_like(first.sequences)
    second = model.generate(
        tokens,
        attention_mask=mask,
        past_key_values=first.past_key_values,
        **(GREEDY | {"max_new_tokens": 4}),
    )
    assert second[0, -4:].tolist() == expected[0][4:]


@pytest.mark.parametrize("use_cache", [True, False])
def test_beams_agree_with_and_without_a_cache(model, use_cache):
    found = generate(model, PROMPTS, num_beams=3, num_return_sequences=2, use_cache=use_cache)
    assert len(found) == 2 * len(PROMPTS)
    alone = [generate(model, [each], num_beams=3, num_return_sequences=2) for each in PROMPTS]
    assert found == [answer for answers in alone for answer in answers]


def test_samples_follow_the_prompt_they_belong_to(model):
    torch.manual_seed(0)
    found = generate(model, PROMPTS, do_sample=True, top_k=1, num_return_sequences=2)
    assert found[::2] == found[1::2] == generate(model, PROMPTS)


def test_assistant_changes_no_token(model, expected):
    assistant = build_model(num_hidden_layers=1)
    for prompt, answer in zip(PROMPTS, expected, strict=True):
        assert generate(model, [prompt], assistant_model=assistant) == [answer]
        assert generate(model, [prompt], assistant_model=model) == [answer]


def test_embeddings_generate_with_the_ids_they_are_of(model, expected):
    ids = torch.tensor([PROMPTS[0]])
    embeddings = model.get_input_embeddings()(ids)
    found = model.generate(ids, inputs_embeds=embeddings, **GREEDY)
    assert found[0, -8:].tolist() == expected[0]
    for prompt, answer in zip(PROMPTS, expected, strict=True):
        embeddings = model.get_input_embeddings()(torch.tensor([prompt]))
        assert model.generate(inputs_embeds=embeddings, **GREEDY)[0].tolist() == answer


def test_explicit_positions_are_counted_on(model, expected):
    ids, mask = pad(PROMPTS[:2], side="left")
    position_ids = model.transformer.build_positions(ids, mask)
    assert generate(model, PROMPTS[:2], position_ids=position_ids) == expected[:2]
    flat = (mask.cumsum(-1) - 1).clamp(min=0)
    assert generate(model, PROMPTS[:2], position_ids=flat) == expected[:2]
    embeddings = model.get_input_embeddings()(ids)
    for each in (position_ids, flat):
        found = model.generate(
            inputs_embeds=embeddings, attention_mask=mask, position_ids=each, **GREEDY
        )
        assert found.tolist() == expected[:2]


def test_step_outputs():
    eager = build_model("eager")
    found = eager.generate(
        torch.tensor([PROMPTS[0]]),
        return_dict_in_generate=True,
        output_attentions=True,
        output_hidden_states=True,
        output_logits=True,
        **GREEDY,
    )
    assert len(found.attentions) == len(found.hidden_states) == len(found.logits) == 8
    length = len(PROMPTS[0])
    assert found.attentions[0][1].shape == (1, 4, length, length)
    assert found.attentions[3][1].shape == (1, 4, 1, length + 3)
    assert found.hidden_states[3][2].shape == (1, 1, 32)


@pytest.mark.slow
def test_flex_attention_generates_the_same(expected):
    model = build_model("flex_attention")
    static = {"cache_implementation": "static", "disable_compile": True}
    assert generate(model, PROMPTS[:1], **static) == expected[:1]


@pytest.mark.slow
def test_compiled_decoding_with_a_static_cache(expected):
    compiled = build_model()
    compiled.forward = torch.compile(compiled.forward, backend="aot_eager", fullgraph=True)
    assert generate(compiled, PROMPTS, cache_implementation="static") == expected
