"""LoRA through peft, injected into the model so that the model keeps its own class."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import torch
from torch import nn
from transformers import PreTrainedModel

from glm_experiments.config import LoraConfig
from glm_experiments.models.published.locations import name_for_others
from glm_experiments.tuners import lora_modules, peft_folders
from glm_experiments.tuners.interface import Tuner
from glm_experiments.tuners.lora_modules import (
    ADAPTER_NAME,
    inject,
    lora_layers,
    merge_lora,
    remove_lora,
)


def build_peft_config(config: LoraConfig) -> peft.LoraConfig:
    """The library's form of our config."""
    return peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=config.r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=list(config.target_modules),
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
    )


class Lora(Tuner[LoraConfig]):
    """Trains low-rank matrices beside the targeted linears; its folder is one of peft's, too."""

    def apply(self, model: PreTrainedModel, config: LoraConfig, *, seed: int) -> None:
        """Put trainable adapters beside the targeted linears and freeze the rest.

        Raises:
            ValueError: for a target that names no linear module.
        """
        self.insert(model, config)
        generator = torch.Generator().manual_seed(seed)
        for layer in lora_layers(model):
            weight = layer.lora_A[ADAPTER_NAME].weight
            # nn.Linear's own law, drawn on the CPU so that every device starts alike.
            bound = 1 / math.sqrt(weight.shape[1])
            drawn = torch.empty(weight.shape).uniform_(-bound, bound, generator=generator)
            weight.data.copy_(drawn)

    def insert(self, model: PreTrainedModel, config: LoraConfig) -> None:
        """Put adapters beside the targeted linears."""
        check_targets(model, config.target_modules)
        inject(model, build_peft_config(config), dtype=getattr(torch, config.dtype))

    def settle(self, model: PreTrainedModel, *, dtype: torch.dtype) -> None:
        """Leave it: adapters are loaded in the precision that they trained in."""
        return

    def remove(self, model: PreTrainedModel) -> None:
        """Take the adapters away."""
        remove_lora(model)

    def merge(self, model: PreTrainedModel) -> None:
        """Add the adapters to the weights beside them."""
        merge_lora(model)

    def read_config(self, schema: type[LoraConfig], settings: dict[str, Any]) -> LoraConfig | None:
        """None: they are in peft's own file; ours know only a few of another's adapter."""
        return None

    def load(
        self, model: PreTrainedModel, config: LoraConfig | None, *, folder: Path, base: str
    ) -> None:
        """Load as peft's what is one of its folders."""
        if not (folder / peft_folders.CONFIG).is_file():
            raise ValueError(f"{folder} lacks {peft_folders.CONFIG}; copy the file there")
        peft_folders.load_peft_folder(model, folder, base=base)

    def plan_companions(
        self, model: PreTrainedModel, *, base: str, revision: str | None
    ) -> Callable[[Path], None]:
        """Peft's description of the adapters."""
        config = find_config(model, base=base, revision=revision)
        return lambda folder: config.save_pretrained(str(folder))

    def to_file_name(self, name: str) -> str:
        """A parameter's name -> its name in peft's files."""
        return lora_modules.to_file_name(name)

    def from_file_name(self, name: str) -> str:
        """A name in peft's files -> the parameter's name."""
        return lora_modules.from_file_name(name)


def check_targets(model: nn.Module, targets: list[str]) -> None:
    """Every target must be the last part of a linear module's name.

    Raises:
        ValueError: listing the targets that match nothing and the names that exist.
    """
    known = {
        name.rpartition(".")[2]
        for name, each in model.named_modules()
        if isinstance(each, nn.Linear)
    }
    if unknown := [target for target in targets if target not in known]:
        raise ValueError(
            f"tuner.target_modules: {', '.join(unknown)} names no linear module of "
            f"{type(model).__name__}; type of {', '.join(sorted(known))}"
        )


def find_config(model: PreTrainedModel, *, base: str, revision: str | None) -> peft.LoraConfig:
    """The library's config of the adapters in a model, as it is saved beside them."""
    config: Any = copy.copy(model.peft_config[ADAPTER_NAME])
    config.base_model_name_or_path = name_for_others(base)
    config.revision = revision
    config.inference_mode = True
    return config
