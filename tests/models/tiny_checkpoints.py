"""Small checkpoint folders of every layout, written on the spot: tests on them run anywhere."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import Glm4Config, Glm4ForCausalLM, GlmConfig, GlmForCausalLM

GEOMETRY = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
    "eos_token_id": 2,
}
PUBLISHED = {
    "model_type": "chatglm",
    "num_layers": 3,
    "padded_vocab_size": 96,
    "hidden_size": 32,
    "ffn_hidden_size": 48,
    "kv_channels": 8,
    "num_attention_heads": 4,
    "multi_query_attention": True,
    "multi_query_group_num": 2,
    "seq_length": 128,
    "layernorm_epsilon": 1e-5,
    "add_qkv_bias": True,
    "add_bias_linear": False,
    "rmsnorm": True,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "torch_dtype": "float32",
}


def write_native(folder: Path, *, model_type: str = "glm", **options: Any) -> Any:
    """Save a random glm or glm4 model; returns it."""
    torch.manual_seed(0)
    if model_type == "glm":
        model: Any = GlmForCausalLM(GlmConfig(**GEOMETRY))
    else:
        model = Glm4ForCausalLM(Glm4Config(**GEOMETRY))
    model.eval().save_pretrained(folder, **options)
    return model


def published_shapes(settings: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """What a checkpoint of ChatGLM2 and later holds, by its published names."""
    hidden, ffn = settings["hidden_size"], settings["ffn_hidden_size"]
    heads = settings["num_attention_heads"] + 2 * settings["multi_query_group_num"]
    qkv = heads * settings["kv_channels"]
    context = settings["num_attention_heads"] * settings["kv_channels"]
    shapes: dict[str, tuple[int, ...]] = {
        "transformer.embedding.word_embeddings.weight": (settings["padded_vocab_size"], hidden),
        "transformer.rotary_pos_emb.inv_freq": (settings["kv_channels"] // 4,),
        "transformer.encoder.final_layernorm.weight": (hidden,),
        "transformer.output_layer.weight": (settings["padded_vocab_size"], hidden),
    }
    for index in range(settings["num_layers"]):
        shapes |= {
            f"transformer.encoder.layers.{index}.{name}": shape
            for name, shape in {
                "input_layernorm.weight": (hidden,),
                "post_attention_layernorm.weight": (hidden,),
                "self_attention.query_key_value.weight": (qkv, hidden),
                "self_attention.query_key_value.bias": (qkv,),
                "self_attention.dense.weight": (hidden, context),
                "mlp.dense_h_to_4h.weight": (2 * ffn, hidden),
                "mlp.dense_4h_to_h.weight": (hidden, ffn),
            }.items()
        }
    return shapes


def published_tensors(settings: dict[str, Any] = PUBLISHED) -> dict[str, torch.Tensor]:
    """Random tensors with the published names of ChatGLM2 and later."""
    generator = torch.Generator().manual_seed(0)
    shapes = published_shapes(settings)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def write_published(
    folder: Path,
    *,
    num_shards: int = 1,
    suffix: str = ".safetensors",
    tensors: dict[str, torch.Tensor] | None = None,
    **changes: Any,
) -> Path:
    """Write a checkpoint in the published layout of ChatGLM2 and later."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = PUBLISHED | changes
    (folder / "config.json").write_text(json.dumps(settings))
    tensors = published_tensors(settings) if tensors is None else tensors
    base = "model" if suffix == ".safetensors" else "pytorch_model"
    if num_shards == 1:
        write_tensors(folder / (base + suffix), tensors)
        return folder
    weight_map = {}
    for index in range(num_shards):
        file = f"{base}-{index + 1:05d}-of-{num_shards:05d}{suffix}"
        names = list(tensors)[index::num_shards]
        write_tensors(folder / file, {name: tensors[name] for name in names})
        weight_map |= dict.fromkeys(names, file)
    index_file = folder / f"{base}{suffix}.index.json"
    index_file.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def write_tensors(file: Path, tensors: dict[str, torch.Tensor]) -> None:
    if file.suffix == ".safetensors":
        save_file(tensors, file)
    else:
        torch.save(tensors, file)


def change_tensors(file: Path, **changes: torch.Tensor | None) -> None:
    """Rewrite a safetensors file with some tensors replaced, added, or (None) left out."""
    tensors: dict[str, Any] = {**load_file(file), **changes}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, file)
