"""LoRA adapters of others: peft's folders, and the bare file that early ChatGLM scripts wrote.

Adapters on the published modules' names go to the native modules' where those are split.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import peft
import torch
from transformers import GlmConfig, PreTrainedModel

from glm_experiments.models.published.chatglm2_layout import build_converter
from glm_experiments.models.published.settings_files import read_settings
from glm_experiments.tuners import lora_modules
from glm_experiments.tuners.origins import check_name
from glm_experiments.tuners.weights import Tensors, fill, misfit, read_tensors

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_PUBLISHED = "transformer.encoder.layers."
_FUSED = re.compile(r"layers\.(\d+)\.attention\.query_key_value\.lora_([AB])(?:\.default)?\.weight")
# What the early scripts trained with; their file holds no settings.
_BARE_ALPHA = 32
# Number of blocks -> the thirds of the fused output that they are for, where a file doesn't say.
_PLACES = {2: (0, 2), 3: (0, 1, 2)}


def load_peft_folder(
    model: PreTrainedModel, folder: Path, *, base: str | None = None
) -> dict[str, Any]:
    """Put a LoRA adapter that peft saved onto its base, in place; returns its settings.

    base: what the adapter was made for, where that is known better than by peft's file.

    Raises:
        ValueError: for another kind of adapter, or another base.
    """
    settings = read_settings(folder / CONFIG)
    if "peft_type" not in settings:
        raise ValueError(f"{folder / CONFIG} has no peft_type; copy the file again")
    config: Any = peft.PeftConfig.from_pretrained(str(folder))
    if config.peft_type != "LORA":
        raise ValueError(
            f"{folder / CONFIG}: peft_type={config.peft_type.value} can't be loaded, only LORA; "
            "load it with peft itself"
        )
    if base is not None:
        config.base_model_name_or_path = base
    if config.trainable_token_indices:
        raise ValueError(
            f"{folder / CONFIG}: trainable_token_indices can't be loaded; load it with peft itself"
        )
    file = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if file is None:
        raise ValueError(f"{folder} has none of {', '.join(WEIGHTS)}; copy the weights there")
    state = {
        lora_modules.from_file_name(name): tensor for name, tensor in read_tensors(file).items()
    }
    if settings.get("enable_lora"):
        places = [place for place, is_adapted in enumerate(settings["enable_lora"]) if is_adapted]
        state = {name: widen(tensor, places=places) for name, tensor in state.items()}
        set_rank(config, num_blocks=len(places))
    if isinstance(model.config, GlmConfig) and any(_PUBLISHED in name for name in state):
        state = split_published(model, state)
        if config.rank_pattern or config.alpha_pattern:
            raise ValueError(
                f"{folder / CONFIG}: rank_pattern and alpha_pattern of an adapter on published "
                "modules can't be carried over to native ones; train it with one rank for all"
            )
        config.target_modules = {name.split(".lora_")[0] for name in state}
    return put_lora(model, state, config=config, source=folder)


def split_published(model: PreTrainedModel, state: Tensors) -> Tensors:
    """Adapters on a fused module -> the same adapters on its parts.

    A part's rows of W + B A are the part's rows of W plus those of B, times the whole A.
    """
    assert isinstance(model.config, GlmConfig)
    convert = build_converter(model.config)
    split: Tensors = {}
    for name, tensor in state.items():
        stem, _, kind = name.partition(".lora_")
        rows = next(value for key, value in state.items() if key.startswith(f"{stem}.lora_B."))
        parts = convert(f"{stem}.weight", rows if kind.startswith("A.") else tensor) or []
        for target, part in parts:
            split[f"{target.removesuffix('.weight')}.lora_{kind}"] = (
                tensor if kind.startswith("A.") else part
            )
    return split


def load_bare_file(model: PreTrainedModel, file: Path) -> dict[str, Any]:
    """Put a bare state dict of LoRA on ChatGLM-6B's fused qkv onto its base, in place.

    peft 0.2 stored one block of rank r for each adapted third of the output: lora_A
    (blocks * r, hidden), lora_B (blocks * out / 3, r, 1), a grouped convolution. Two blocks are the
    first and the last third. The same product at rank blocks * r has lora_B block-diagonal.

    Raises:
        ValueError: for a file that holds something else, or another base.
    """
    stored = read_tensors(file)
    found = {
        match.groups(): value for name, value in stored.items() if (match := _FUSED.search(name))
    }
    blocks = {
        found[layer, "A"].shape[0] // tensor.shape[1]
        for (layer, letter), tensor in found.items()
        if letter == "B" and tensor.ndim == 3
    }
    if not found or len(found) != len(stored) or len(blocks) > 1 or not blocks <= _PLACES.keys():
        raise ValueError(
            f"{file} is no bare state dict of LoRA on ChatGLM-6B's query_key_value; give the "
            "folder of an adapter"
        )
    num_blocks = next(iter(blocks), 1)
    state = {
        f"transformer.layers.{layer}.attention.query_key_value.lora_{letter}.default.weight": widen(
            tensor, places=_PLACES.get(num_blocks, ())
        )
        for (layer, letter), tensor in found.items()
    }
    wide_rank = next((tensor.shape[0] for (_, letter), tensor in found.items() if letter == "A"), 0)
    config = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=wide_rank // num_blocks,
        lora_alpha=_BARE_ALPHA,
        target_modules=["query_key_value"],
    )
    set_rank(config, num_blocks=num_blocks)
    return put_lora(model, state, config=config, source=file)


def widen(tensor: torch.Tensor, *, places: Sequence[int]) -> torch.Tensor:
    """lora_B as a convolution in groups, (blocks * out / 3, r, 1), of the thirds at `places` ->
    (out, blocks * r), zero elsewhere. Anything else is itself."""
    if tensor.ndim != 3:
        return tensor
    blocks, num_blocks = tensor[..., 0], len(places)
    third, rank = blocks.shape[0] // num_blocks, blocks.shape[1]
    wide = blocks.new_zeros(3 * third, num_blocks * rank)
    for index, place in enumerate(places):
        rows = slice(place * third, (place + 1) * third)
        wide[rows, index * rank : (index + 1) * rank] = blocks[index * third : (index + 1) * third]
    return wide


def set_rank(config: Any, *, num_blocks: int) -> None:
    """The rank of so many blocks beside each other; alpha / r stays what it was."""
    config.r *= num_blocks
    config.lora_alpha *= num_blocks
    config.fan_in_fan_out = False


def put_lora(
    model: PreTrainedModel, state: Tensors, *, config: Any, source: Path
) -> dict[str, Any]:
    """Insert adapters by peft's own config and fill all of them; returns the settings.

    Whole weights in `state` (biases and modules that trained beside the adapters) replace the
    model's.
    """
    base = config.base_model_name_or_path
    check_name(base, model, source=source)
    modules = {name for name, _ in model.named_modules()}
    whole = {name for name in state if ".lora_" not in name}
    homes = {
        name: name.rpartition(".")[0].removesuffix(".base_layer")
        if name in whole
        else name.partition(".lora_")[0]
        for name in state
    }
    problems = [
        f"the model has no place for {name}" for name, home in homes.items() if home not in modules
    ]
    adapters = [tensor for name, tensor in state.items() if name not in whole]
    if not adapters:
        problems.append("it holds no LoRA parameter")
    if problems:
        raise misfit(model, problems, source=source, base=base)
    is_bfloat16 = adapters[0].dtype is torch.bfloat16
    # The library would keep such a module twice, which nothing here needs.
    modules_to_save, config.modules_to_save = config.modules_to_save, None
    lora_modules.inject(model, config, dtype=torch.bfloat16 if is_bfloat16 else torch.float32)
    config.modules_to_save = modules_to_save
    expected = {name for name, _ in model.named_parameters() if ".lora_" in name} | whole
    fill(model, state, source=source, base=base, expected=expected)
    for name in whole:  # saved again with the adapter
        model.get_parameter(name).requires_grad_(True)
    return {"name": "lora", "r": config.r, "lora_alpha": config.lora_alpha}
