"""A geometry -> a model with fresh weights, for pretraining and for measuring at full size."""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from glm_experiments.models.tokenizers.vocabulary_match import describe_vocabulary
from glm_experiments.tokenizer_protocol import Tokenizer

ARCHITECTURES = ("glm", "glm4", "chatglm")


def build_model(
    geometry: Mapping[str, Any],
    *,
    tokenizer: Tokenizer | None,
    dtype: torch.dtype,
    seed: int,
    attn_implementation: str | None = None,
    device: torch.device | str = "cpu",
) -> PreTrainedModel:
    """Build a model with random weights; the same arguments on one device give the same weights.

    Args:
        geometry: `model_type` (glm, glm4 or chatglm) and fields of its configuration class.
        tokenizer: gives the vocabulary's size and the special token ids that `geometry` leaves
            out; None: they are all there.
        device: where the weights are drawn and stay.

    Raises:
        ValueError: an unknown architecture or field, or values that do not go together.
    """
    fields = dict(geometry)
    model_type = fields.pop("model_type", None)
    if model_type not in ARCHITECTURES:
        raise ValueError(
            f"model.geometry.model_type is {model_type!r}; type one of {', '.join(ARCHITECTURES)}"
        )
    default = AutoConfig.for_model(model_type)
    if unknown := sorted(field for field in fields if not hasattr(default, field)):
        raise ValueError(
            f"model.geometry has {', '.join(unknown)}, which {type(default).__name__} does not; "
            f"its fields are {', '.join(sorted(default.to_dict()))}"
        )
    vocabulary = {} if tokenizer is None else describe_vocabulary(tokenizer)
    config = type(default)(**(vocabulary | fields))
    if config.hidden_size % config.num_attention_heads:
        raise ValueError(
            f"model.geometry: hidden_size={config.hidden_size} is not a multiple of "
            f"num_attention_heads={config.num_attention_heads}"
        )
    options = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
    device = torch.device(device)
    forked = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=forked), device:
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, dtype=dtype, **options
        )
    model.eval()  # type: ignore[no-untyped-call]
    return model
