"""A tuned model <-> a folder that holds what was trained and all that is needed to use it.

`adapter.json` describes tuner, base and prompt format, `adapter_model.safetensors` holds the
trained tensors; a LoRA folder is also one that peft reads.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from glm_experiments.config import SCHEMAS, TrainableDtype
from glm_experiments.tuners import lora
from glm_experiments.tuners.origins import (
    Base,
    Origin,
    check_base,
    check_plain,
    find_origin,
    remember_origin,
)
from glm_experiments.tuners.tuning import apply_tuner, trainable_parameters

State = dict[str, torch.Tensor]

DESCRIPTION = "adapter.json"
WEIGHTS = "adapter_model.safetensors"
PEFT_CONFIG = "adapter_config.json"
OWN_WEIGHTS = ("full", "freeze")


class TunerAdapter:
    """How a tuned model's trained parameters are kept on disk; holds no tensor itself.

    base: the name by which the base is loaded again.
    """

    def __init__(self, model: PreTrainedModel, *, prompt_format: str, base: str) -> None:
        origin = find_origin(model)
        if origin is None:
            raise ValueError("the model carries no adapter to save; apply a tuner first")
        self.tuner = origin.tuner
        self.base = base
        self.description = {
            "tuner": origin.tuner,
            "prompt_format": str(prompt_format),
            "base": {**asdict(origin.base), "name": base},
        }

    def save(self, folder: Path, state: State) -> None:
        """Write the trained parameters, by their names in the model.

        Raises:
            ValueError: where there are none.
        """
        if not state:
            raise ValueError(f"there is nothing trained to save into {folder}; check the tuner")
        folder.mkdir(parents=True, exist_ok=True)
        if self.tuner["name"] == "lora":
            config = lora.build_peft_config(build_tuner_config(self.tuner))
            config.base_model_name_or_path = self.base
            config.inference_mode = True
            config.save_pretrained(str(folder))
        save_file(
            {rename(name, self.tuner): value.contiguous() for name, value in state.items()},
            folder / WEIGHTS,
            metadata={"format": "pt"},
        )
        text = json.dumps(self.description, ensure_ascii=False, indent=2)
        (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")

    def read(self, folder: Path) -> State:
        """The trained parameters that `save` wrote, by their names in the model."""
        return read_state(folder, self.tuner)


def rename(name: str, tuner: dict[str, Any]) -> str:
    """A parameter's name in the files."""
    return lora.to_file_name(name) if tuner["name"] == "lora" else name


def read_state(folder: Path, tuner: dict[str, Any]) -> State:
    """Trained parameters by their names in the model, on the CPU."""
    state = load_file(folder / WEIGHTS)
    if tuner["name"] == "lora":
        return {lora.from_file_name(name): value for name, value in state.items()}
    return state


def save_adapter(model: PreTrainedModel, folder: Path, *, prompt_format: str, base: str) -> None:
    """Write what was trained of `model`, with all that is needed to use it, into `folder`.

    Raises:
        ValueError: where nothing is trainable.
    """
    state = {
        name: each.detach().to("cpu", copy=True)
        for name, each in trainable_parameters(model).items()
    }
    TunerAdapter(model, prompt_format=prompt_format, base=base).save(folder, state)


def load_adapter(model: PreTrainedModel, path: str | Path) -> PreTrainedModel:
    """Put a saved adapter onto its base, in place, for use: nothing is trainable afterwards.

    Raises:
        ValueError: for a folder that is no adapter, or another base than the adapter's.
    """
    check_plain(model)
    path = Path(path)
    if (path / DESCRIPTION).is_file():
        load_own(model, path)
    else:
        raise ValueError(
            f"{path} holds no adapter: it has no {DESCRIPTION}; give the folder that "
            "a run wrote its adapter into"
        )
    model.requires_grad_(False)
    model.train(False)
    return model


def load_own(model: PreTrainedModel, folder: Path) -> None:
    """Load an adapter that `TunerAdapter.save` wrote."""
    description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    tuner, base = description["tuner"], Base(**description["base"])
    check_base(base, model, replaces_weights=tuner["name"] == "full")
    state = read_state(folder, tuner)
    if tuner["name"] in OWN_WEIGHTS:
        fill(model, state, source=folder)
        remember_origin(model, Origin(tuner=tuner, base=base))
        return
    apply_tuner(model, build_tuner_config(tuner))
    fill(model, state, source=folder, expected=set(trainable_parameters(model)))


@torch.no_grad()
def fill(
    model: PreTrainedModel, state: State, *, source: Path, expected: set[str] | None = None
) -> None:
    """Copy `state` into the model's parameters, each on its device, in its precision.

    Raises:
        ValueError: where names or shapes differ.
    """
    parameters = dict(model.named_parameters())
    odd = sorted(state.keys() ^ expected if expected else state.keys() - parameters.keys())
    odd += [
        name
        for name, value in state.items()
        if name in parameters and value.shape != parameters[name].shape
    ]
    if odd:
        raise ValueError(
            f"{source} does not fit {model.name_or_path}: {odd[0]} is missing, left over or of "
            f"another shape ({len(odd)} in all); load the base that the adapter was made for"
        )
    for name, value in state.items():
        parameters[name].copy_(value)


def build_tuner_config(tuner: dict[str, Any]) -> Any:
    """The tuner's config as it was saved."""
    schema = SCHEMAS["tuner"][tuner["name"]]
    return schema(**{**tuner, "dtype": TrainableDtype(tuner["dtype"])})
