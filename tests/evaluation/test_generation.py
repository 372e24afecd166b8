"""Greedy answers: equal to a loop without batches, cache or padding; the model is left as is."""

from __future__ import annotations

import random

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GenerationConfig, GlmForCausalLM

from glm_experiments.evaluation.generation import cut_at_stop, generate_answers, pad_left

from .tiny import END, PAD, build_model

rng = random.Random(0)
PROMPTS = [[rng.randrange(2, 98) for _ in range(rng.randrange(1, 20))] for _ in range(9)]


@pytest.fixture(scope="module")
def model() -> GlmForCausalLM:
    return build_model()


def answer_one(
    model: GlmForCausalLM, prompt: list[int], *, stops: list[int], length: int
) -> list[int]:
    answer: list[int] = []
    with torch.no_grad():
        while len(answer) < length:
            token = int(model(torch.tensor([prompt + answer])).logits[0, -1].argmax())
            if token in stops:
                break
            answer.append(token)
    return answer


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_answers_do_not_depend_on_batches(model: GlmForCausalLM, batch_size: int) -> None:
    model.eval()
    free = [answer_one(model, prompt, stops=[], length=8) for prompt in PROMPTS]
    stops = [free[0][3], free[1][5]]
    wanted = [answer_one(model, prompt, stops=stops, length=8) for prompt in PROMPTS]
    assert [len(answer) for answer in wanted] != [8] * len(wanted)
    done: list[tuple[int, int]] = []
    answers = generate_answers(
        model,
        PROMPTS,
        batch_size=batch_size,
        max_new_tokens=8,
        stop_token_ids=stops,
        pad_token_id=PAD,
        progress=lambda *counts: done.append(counts),
    )
    assert answers == wanted
    assert (done[0], done[-1]) == ((0, 9), (9, 9))
    assert len(done) == 1 - (-9 // batch_size)


def test_a_batch_ends_with_its_last_answer(model: GlmForCausalLM) -> None:
    first = answer_one(model.eval(), PROMPTS[0], stops=[], length=1)
    calls: list[torch.Size] = []
    hook = model.lm_head.register_forward_hook(lambda *given: calls.append(given[2].shape))
    stops = {"stop_token_ids": first, "pad_token_id": PAD}
    answers = generate_answers(model, PROMPTS[:1], batch_size=1, max_new_tokens=50, **stops)  # type: ignore[arg-type]
    hook.remove()
    assert answers == [[]]
    assert len(calls) == 1


def test_settings_of_the_model_folder_do_not_leak_in(model: GlmForCausalLM) -> None:
    def answer() -> list[list[int]]:
        return generate_answers(
            model, PROMPTS, batch_size=4, max_new_tokens=8, stop_token_ids=[END], pad_token_id=PAD
        )

    plain = answer()
    published = GenerationConfig(
        do_sample=True,
        temperature=0.1,
        repetition_penalty=5.0,
        num_beams=3,
        max_length=3,
        suppress_tokens=list({token for each in plain for token in each}),
    )
    model.generation_config = published
    assert answer() == plain
    assert model.generation_config is published
    model.generation_config = GenerationConfig()


def test_a_peft_model_answers_with_its_adapter() -> None:
    model = build_model()
    adapted = get_peft_model(
        model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    )
    settings = model.generation_config
    wanted = [answer_one(adapted.eval(), prompt, stops=[], length=8) for prompt in PROMPTS]
    answers = generate_answers(
        adapted, PROMPTS, batch_size=4, max_new_tokens=8, stop_token_ids=[], pad_token_id=PAD
    )
    assert answers == wanted
    with adapted.disable_adapter():
        assert answers != generate_answers(
            adapted, PROMPTS, batch_size=4, max_new_tokens=8, stop_token_ids=[], pad_token_id=PAD
        )
    assert model.generation_config is settings


def test_every_module_keeps_its_mode(model: GlmForCausalLM) -> None:
    model.train()
    model.lm_head.eval()
    generate_answers(
        model, PROMPTS[:1], batch_size=1, max_new_tokens=1, stop_token_ids=[END], pad_token_id=PAD
    )
    modes = {name for name, module in model.named_modules() if not module.training}
    assert modes == {"lm_head"}


def test_no_prompts_no_answers(model: GlmForCausalLM) -> None:
    assert (
        generate_answers(
            model, [], batch_size=4, max_new_tokens=8, stop_token_ids=[END], pad_token_id=PAD
        )
        == []
    )


def test_padding_is_left() -> None:
    batch = pad_left([[5, 6, 7], [8]], pad_token_id=0)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [0, 0, 8]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]


def test_an_answer_ends_before_its_first_stop() -> None:
    assert cut_at_stop([5, 6, 2, 7, 2], [2, 9]) == [5, 6]
    assert cut_at_stop([5, 6], [2]) == [5, 6]
    assert cut_at_stop([2], [2]) == []
