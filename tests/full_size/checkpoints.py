"""Full-size checkpoints with random weights, written as they are published, and what they cost."""

import shutil
from pathlib import Path
from typing import Any

import torch

from glm_experiments import train
from glm_experiments.models import load_tokenizer
from glm_experiments.models.building import build_model
from tests.models.tiny_checkpoints import PUBLISHED, published_shapes, write_published

GIB = 2**30
DEVICE = "cuda"
SHIPPED = Path(train.__file__).parent / "models" / "shipped"
NOT_TOKENIZER = shutil.ignore_patterns("config.json", "generation_config.json", "*.safetensors")
NUM_PARAMETERS = {
    "chatglm_6b": 6_173_286_400,
    "chatglm2_6b": 6_243_584_000,
    "glm4_9b": 9_399_951_360,
}
GEOMETRIES: dict[str, dict[str, Any]] = {
    "chatglm_6b": {"model_type": "chatglm", "vocab_size": 130528},
    "chatglm2_6b": {
        "model_type": "glm",
        "hidden_size": 4096,
        "num_hidden_layers": 28,
        "num_attention_heads": 32,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "intermediate_size": 13696,
        "vocab_size": 65024,
        "attention_bias": True,
        "pad_token_id": 0,
        "eos_token_id": 2,
    },
}
PUBLISHED_CHATGLM2 = PUBLISHED | {
    "num_layers": 28,
    "padded_vocab_size": 65024,
    "hidden_size": 4096,
    "ffn_hidden_size": 13696,
    "kv_channels": 128,
    "num_attention_heads": 32,
    "seq_length": 32768,
    "torch_dtype": "bfloat16",
}
LATER = {
    "chatglm2_6b": PUBLISHED_CHATGLM2,
    "glm4_9b": PUBLISHED_CHATGLM2 | {"num_layers": 40, "padded_vocab_size": 151552},
}
QUERIES_TO_VALUES = {"chatglm_6b": "[query_key_value]", "chatglm2_6b": "[q_proj,k_proj,v_proj]"}


def write_checkpoint(name: str, folder: Path) -> Path:
    """A model of this size, with a tiny model's tokenizer."""
    if name == "chatglm_6b":
        shutil.copytree(SHIPPED / "tiny_chatglm", folder, ignore=NOT_TOKENIZER)
        tokenizer = load_tokenizer(str(folder))
        model = build_model(
            GEOMETRIES[name], tokenizer=tokenizer, dtype=torch.bfloat16, seed=0, device=DEVICE
        )
        model.save_pretrained(folder, max_shard_size="2GB")
        return folder
    shutil.copytree(SHIPPED / "tiny_glm", folder, ignore=NOT_TOKENIZER)
    torch.manual_seed(0)
    tensors = {}
    for tensor_name, shape in published_shapes(LATER[name]).items():
        tensor = torch.randn(shape, dtype=torch.bfloat16, device=DEVICE) * 0.02
        tensors[tensor_name] = torch.ones_like(tensor) if "layernorm" in tensor_name else tensor
    return write_published(folder, num_shards=7, tensors=tensors, **LATER[name])


def show(title: str, tokens_per_second: float, peak_bytes: int) -> None:
    """A line of the table that `pytest -s` prints."""
    print(f"\n| {title} | {tokens_per_second:,.0f} | {peak_bytes / GIB:.2f} |")
