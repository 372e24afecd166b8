"""ChatGLM-6B at full size with random weights: what a prefix costs beside LoRA."""

import gc
import time
from dataclasses import dataclass

import pytest
import torch

from glm_experiments.composition import build_loader, compose
from glm_experiments.config import parse
from glm_experiments.models.building import build_model
from glm_experiments.models.loss import apply_label_only_loss
from glm_experiments.tuners import apply_tuner, trainable_parameters

GIB = 2**30
ROWS, LENGTH = 4, 1024
NUM_WARM_UP_STEPS, NUM_TIMED_STEPS = 5, 20


@dataclass(frozen=True)
class Measured:
    tokens_per_second: float
    peak_bytes: int


def build_batch() -> dict[str, torch.Tensor]:
    """Half of every row is context, the other half is labelled: `[gMASK] <sop>` between them."""
    ids = torch.randint(10, 100_000, (ROWS, LENGTH))
    ids[:, LENGTH // 2 - 2], ids[:, LENGTH // 2 - 1] = 130001, 130004
    labels = ids.clone()
    labels[:, : LENGTH // 2] = -100
    positions = (labels[:, 1:] != -100).nonzero()
    flat = positions[:, 0] * LENGTH + positions[:, 1]
    batch = {"input_ids": ids, "labels": labels, "label_positions": flat}
    return {name: each.cuda() for name, each in batch.items()}


def measure(*overrides: str) -> Measured:
    """Forward, backward and optimizer step with full activation checkpointing."""
    config = parse(compose(build_loader(), ["model=chatglm_6b", *overrides]))
    model = build_model(
        {"model_type": "chatglm"}, tokenizer=None, dtype=torch.bfloat16, seed=0, device="cuda"
    )
    model = apply_tuner(apply_label_only_loss(model), config.tuner)
    model.gradient_checkpointing_enable()
    model.train()
    optimizer = torch.optim.AdamW(trainable_parameters(model).values(), lr=1e-4)
    batch = build_batch()
    torch.cuda.reset_peak_memory_stats()
    start = 0.0
    for step in range(NUM_WARM_UP_STEPS + NUM_TIMED_STEPS):
        if step == NUM_WARM_UP_STEPS:
            torch.cuda.synchronize()
            start = time.perf_counter()
        model(**batch, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated()
    del model, optimizer, batch
    gc.collect()
    torch.cuda.empty_cache()
    return Measured(ROWS * LENGTH * NUM_TIMED_STEPS / seconds, peak)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_prefix_costs_little_more_than_lora_at_full_size() -> None:
    lora = measure("tuner=lora", "tuner.lora_dropout=0", "tuner.target_modules=[query_key_value]")
    prefix = measure("tuner=p_tuning_v2", "tuner.num_virtual_tokens=128")
    print(f"lora {lora}, prefix {prefix}")
    assert lora.tokens_per_second >= 11_000
    assert lora.peak_bytes <= 15 * GIB
    assert prefix.peak_bytes <= lora.peak_bytes + GIB
    assert prefix.tokens_per_second >= 0.9 * lora.tokens_per_second
