"""Tiny random models and tuner configs for the tests of this folder."""

from typing import Any

import torch
from transformers import GlmConfig, GlmForCausalLM, PreTrainedModel

from glm_experiments.config import (
    FreezeConfig,
    FullConfig,
    LoraConfig,
    PTuningV2Config,
    TrainableDtype,
)
from glm_experiments.models.architectures.chatglm.config import ChatGLMConfig
from glm_experiments.models.architectures.chatglm.modeling import ChatGLMForCausalLM


def build_glm(*, seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    torch.manual_seed(seed)
    settings = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "attention_bias": True,
        "pad_token_id": 0,
        "eos_token_id": 2,
    }
    model: PreTrainedModel = GlmForCausalLM(GlmConfig(**{**settings, **changes})).eval()
    model.name_or_path = f"glm-of-seed-{seed}"
    return model.to(dtype)


def build_chatglm(*, seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """Version 1; its context ends with 60 61, [gMASK] and <sop>."""
    torch.manual_seed(seed)
    settings = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "mask_token_id": 59,
        "gmask_token_id": 60,
        "bos_token_id": 61,
        "eos_token_id": 62,
        "pad_token_id": 3,
    }
    implementation = changes.pop("attn_implementation", "sdpa")
    config = ChatGLMConfig(**{**settings, **changes})
    config._attn_implementation = implementation
    model = ChatGLMForCausalLM(config).eval()
    # Weights this small would leave the tied head to repeat its input.
    model.transformer.layers.apply(enlarge)
    model.name_or_path = f"chatglm-of-seed-{seed}"
    return model.to(dtype)


def enlarge(module: torch.nn.Module) -> None:
    if isinstance(module, torch.nn.Linear):
        module.weight.data *= 20


def lora_config(**changes: Any) -> LoraConfig:
    settings: dict[str, Any] = {
        "name": "lora",
        "dtype": TrainableDtype.float32,
        "r": 4,
        "lora_alpha": 8,
        "lora_dropout": 0.0,
        "target_modules": ["q_proj", "v_proj"],
        "use_rslora": False,
        "use_dora": False,
    }
    return LoraConfig(**{**settings, **changes})


def full_config(dtype: str = "float32") -> FullConfig:
    return FullConfig(name="full", dtype=TrainableDtype(dtype))


def freeze_config(num_trainable_layers: int, dtype: str = "float32") -> FreezeConfig:
    return FreezeConfig(
        name="freeze", dtype=TrainableDtype(dtype), num_trainable_layers=num_trainable_layers
    )


def p_tuning_config(**changes: Any) -> PTuningV2Config:
    settings: dict[str, Any] = {
        "name": "p_tuning_v2",
        "dtype": TrainableDtype.float32,
        "num_virtual_tokens": 4,
        "prefix_projection": False,
        "prefix_dropout": 0.0,
    }
    return PTuningV2Config(**{**settings, **changes})


def build_batch(*, seed: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(3, 64, (2, 10), generator=generator)
    labels = input_ids.clone()
    labels[:, :4] = -100
    return {"input_ids": input_ids, "labels": labels}


def train_steps(model: Any, *, steps: int = 2) -> dict[str, torch.Tensor]:
    """Train a little; return every parameter as it was before."""
    before = {name: each.detach().clone() for name, each in model.named_parameters()}
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for step in range(steps):
        optimizer.zero_grad()
        model(**build_batch(seed=step), use_cache=False).loss.backward()
        optimizer.step()
    model.eval()
    return before


def moved(model: Any, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, each in model.named_parameters() if not torch.equal(each, before[name])}
