"""A small ChatGLM-6B with random weights, and sequences for it."""

from typing import Any

import torch

from glm_experiments.models.architectures.chatglm.config import ChatGLMConfig
from glm_experiments.models.architectures.chatglm.modeling import ChatGLMForCausalLM

MASK, GMASK, SOP, EOP, PAD = 90, 91, 94, 95, 3


def build_config(**changes: Any) -> ChatGLMConfig:
    settings = {
        "vocab_size": 99,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "mask_token_id": MASK,
        "gmask_token_id": GMASK,
        "bos_token_id": SOP,
        "eos_token_id": EOP,
        "pad_token_id": PAD,
        "initializer_range": 0.3,
    }
    return ChatGLMConfig(**(settings | changes))


def build_model(attn_implementation: str = "sdpa", **changes: Any) -> ChatGLMForCausalLM:
    torch.manual_seed(0)
    model = ChatGLMForCausalLM._from_config(
        build_config(**changes), attn_implementation=attn_implementation
    )
    with torch.no_grad():
        for layer in model.transformer.layers:
            # Large beside the scaled residual, so that answers depend on what is attended to.
            layer.attention.dense.weight.mul_(6)
            layer.mlp.dense_4h_to_h.weight.mul_(6)
    return model.eval()


def sample(context: int, answer: int, *, seed: int = 0) -> list[int]:
    """`context` tokens, [gMASK] <sop>, and `answer` tokens."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(10, 80, (context + answer,), generator=generator).tolist()
    return [*tokens[:context], GMASK, SOP, *tokens[context:]]


def pad(samples: list[list[int]], *, side: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, (batch, longest)."""
    longest = max(map(len, samples))
    ids, mask = [], []
    for each in samples:
        filler = longest - len(each)
        left, right = (filler, 0) if side == "left" else (0, filler)
        ids.append([PAD] * left + each + [PAD] * right)
        mask.append([0] * left + [1] * len(each) + [0] * right)
    return torch.tensor(ids), torch.tensor(mask)
