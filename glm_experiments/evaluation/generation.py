"""Greedy answers to many prompts. Knows a causal model and token ids, no text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig

Progress = Callable[[int, int], None]


def generate_answers(
    model: nn.Module,
    prompts: Sequence[list[int]],
    *,
    batch_size: int,
    max_new_tokens: int,
    stop_token_ids: Sequence[int],
    pad_token_id: int,
    progress: Progress | None = None,
) -> list[list[int]]:
    """Most likely continuation of each prompt, token by token, without the token that ended it.

    Prompts of similar length share a batch, the longest come first (so that one too large for the
    memory shows at once), padded on the left; a batch ends with its last answer.

    Args:
        progress: called at first and after every batch with the number of answers, and that of
            prompts.
    """
    settings = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        num_beams=1,
        use_cache=True,
        max_new_tokens=max_new_tokens,
        eos_token_id=list(stop_token_ids) or None,
        pad_token_id=pad_token_id,
    )
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    answers: list[list[int]] = [[] for _ in prompts]
    if progress is not None:
        progress(0, len(prompts))
    with evaluation_mode(model), lengths_that_grow(), own_settings(model, settings) as bare:
        for start in range(0, len(order), batch_size):
            indices = order[start : start + batch_size]
            batch = pad_left([prompts[index] for index in indices], pad_token_id=pad_token_id)
            batch = {name: tensor.to(bare.device) for name, tensor in batch.items()}
            output = bare.generate(**batch, generation_config=settings)
            length = batch["input_ids"].shape[1]
            for index, tokens in zip(indices, output[:, length:].tolist(), strict=True):
                answers[index] = cut_at_stop(tokens, stop_token_ids)
            if progress is not None:
                progress(start + len(indices), len(prompts))
    return answers


def pad_left(prompts: Sequence[list[int]], *, pad_token_id: int) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask`: (batch, longest prompt)."""
    longest = max(len(prompt) for prompt in prompts)
    padding = [longest - len(prompt) for prompt in prompts]
    pairs = list(zip(padding, prompts, strict=True))
    return {
        "input_ids": torch.tensor([[pad_token_id] * count + prompt for count, prompt in pairs]),
        "attention_mask": torch.tensor([[0] * count + [1] * len(p) for count, p in pairs]),
    }


def cut_at_stop(tokens: list[int], stop_token_ids: Sequence[int]) -> list[int]:
    """`tokens` before the first stop token."""
    end = next((i for i, token in enumerate(tokens) if token in stop_token_ids), len(tokens))
    return tokens[:end]


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """No dropout and no gradients inside; afterwards each module trains that did before."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def lengths_that_grow() -> Iterator[None]:
    """Attention without cuDNN, which plans anew for every key length: 52 to 65 ms a token instead
    of 14 to 17 on an H100 (torch 2.11)."""
    before = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


@contextmanager
def own_settings(model: nn.Module, settings: GenerationConfig) -> Iterator[Any]:
    """The model inside peft's wrapper, for a while without the generation settings of its folder.

    `generate` fills what its argument leaves open (a repetition penalty, say) from the model's.
    """
    bare: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    before = bare.generation_config
    bare.generation_config = settings
    try:
        yield bare
    finally:
        bare.generation_config = before
