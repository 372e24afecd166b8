"""A tuned model <-> a folder that holds what was trained and all that is needed to use it.

`adapter.json` describes tuner, base and prompt format, `adapter_model.safetensors` holds the
trained tensors; a LoRA folder is also one that peft reads. Adapters of others load, too.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from transformers import PreTrainedModel

from glm_experiments.config import (
    SCHEMAS,
    FreezeConfig,
    FullConfig,
    PTuningV2Config,
    TrainableDtype,
)
from glm_experiments.models.architectures.layer_list import find_layers
from glm_experiments.models.published.settings_files import read_settings
from glm_experiments.tuners import lora, peft_folders, published_prefix
from glm_experiments.tuners.lora import remove_lora
from glm_experiments.tuners.origins import (
    Base,
    Origin,
    check_base,
    check_plain,
    describe_base,
    find_origin,
    remember_origin,
)
from glm_experiments.tuners.p_tuning_v2 import insert_prefixes, remove_prefixes
from glm_experiments.tuners.tuning import trainable_parameters
from glm_experiments.tuners.weights import State, fill, read_tensors

DESCRIPTION = "adapter.json"
WEIGHTS = "adapter_model.safetensors"


class TunerAdapter:
    """How a tuned model's trained parameters are kept on disk; holds no tensor itself.

    base: the name by which the base is loaded again.
    """

    def __init__(self, model: PreTrainedModel, *, prompt_format: str, base: str) -> None:
        origin = find_origin(model)
        if origin is None:
            raise ValueError("the model carries no adapter to save; apply a tuner first")
        self.is_lora = origin.tuner["name"] == "lora"
        self.peft_config = lora.find_config(model, base=base) if self.is_lora else None
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
        if self.peft_config is not None:
            self.peft_config.save_pretrained(str(folder))
            state = {lora.to_file_name(name): value for name, value in state.items()}
        save_file(
            {name: value.contiguous() for name, value in state.items()},
            folder / WEIGHTS,
            metadata={"format": "pt"},
        )
        text = json.dumps(self.description, ensure_ascii=False, indent=2)
        (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")
        # safetensors 0.8 lets only the owner read its files; whoever may read one may read both.
        (folder / WEIGHTS).chmod((folder / DESCRIPTION).stat().st_mode)

    def read(self, folder: Path) -> State:
        """The trained parameters that `save` wrote, by their names in the model."""
        state = read_tensors(folder / WEIGHTS)
        if self.is_lora:
            return {lora.from_file_name(name): value for name, value in state.items()}
        return state


def save_adapter(model: PreTrainedModel, folder: Path, *, prompt_format: str, base: str) -> None:
    """Write what was trained of `model`, with all that is needed to use it, into `folder`.

    Raises:
        ValueError: where the model is not tuned.
    """
    adapter = TunerAdapter(model, prompt_format=prompt_format, base=base)
    origin = find_origin(model)
    assert origin is not None
    state = {
        name: each.detach().to("cpu", copy=True)
        for name, each in model.named_parameters()
        if name in origin.trained
    }
    adapter.save(folder, state)


def load_adapter(model: PreTrainedModel, path: str | Path) -> PreTrainedModel:
    """Put a saved adapter onto its base, in place, for use: nothing is trainable afterwards.

    path: a folder that we wrote, a folder of peft's with LoRA, a checkpoint folder of THUDM's
    ptuning scripts, the file of weights in any of them, or a bare LoRA state dict such as
    `chatglm-lora.pt`, alone or in a folder.

    Raises:
        ValueError: for what is no adapter, or another base than the adapter's.
    """
    check_plain(model)
    path = find_source(Path(path).expanduser())
    base = describe_base(model)
    trains = {name: each.requires_grad for name, each in model.named_parameters()}
    try:
        tuner = load_from(model, path)
    except ValueError:
        remove_lora(model)
        remove_prefixes(model)
        for name, each in model.named_parameters():
            each.requires_grad_(trains[name])
        raise
    trained = frozenset(trainable_parameters(model))
    remember_origin(model, Origin(tuner=tuner, base=base, trained=trained))
    model.requires_grad_(False)
    model.train(False)
    return model


def load_from(model: PreTrainedModel, path: Path) -> dict[str, Any]:
    """Load whatever kind of adapter a path holds; returns the tuner's settings.

    Raises:
        ValueError: with adapters in the model, where they are found not to fit it.
    """
    if (path / DESCRIPTION).is_file():
        return load_own(model, path)
    if (path / peft_folders.CONFIG).is_file():
        return peft_folders.load_peft_folder(model, path)
    if published_prefix.is_published_prefix(path):
        return published_prefix.load_published_prefix(model, path)
    if path.is_file():
        return peft_folders.load_bare_file(model, path)
    raise ValueError(
        f"{path} is no adapter; give a folder with {DESCRIPTION} (ours), "
        f"{peft_folders.CONFIG} (peft) or {published_prefix.CONFIG} with pre_seq_len and "
        f"{published_prefix.WEIGHTS} (THUDM's ptuning), or a .pt file of LoRA parameters"
        f"{name_nearby(path)}"
    )


def find_source(path: Path) -> Path:
    """What a path means: the folder around a file of weights, the only .pt file in a folder, or
    what was trained in a run or checkpoint of ours."""
    descriptions = (DESCRIPTION, peft_folders.CONFIG, published_prefix.CONFIG)
    if path.is_file():
        is_part = path.name in (DESCRIPTION, *peft_folders.WEIGHTS, published_prefix.WEIGHTS)
        is_described = any((path.parent / name).is_file() for name in descriptions)
        return path.parent if is_part and is_described else path
    if not path.is_dir() or any((path / name).is_file() for name in descriptions):
        return path
    if (path / "adapter" / DESCRIPTION).is_file():
        return path / "adapter"
    files = list(path.glob("*.pt"))
    return files[0] if len(files) == 1 else path


def name_nearby(folder: Path) -> str:
    """A hint at the checkpoints below a folder, where there are some."""
    checkpoints = sorted(
        (each.name for each in folder.glob("checkpoint-*") if each.is_dir()), key=step_in
    )
    return f"; did you mean {folder / checkpoints[-1]}?" if checkpoints else ""


def step_in(name: str) -> int:
    """The number at the end of a checkpoint's name."""
    step = name.rpartition("-")[2]
    return int(step) if step.isdecimal() else 0


def load_own(model: PreTrainedModel, folder: Path) -> dict[str, Any]:
    """Load an adapter that `TunerAdapter.save` wrote; returns the tuner's settings."""
    description = read_settings(folder / DESCRIPTION)
    try:
        tuner: dict[str, Any] = description["tuner"]
        base = Base(**description["base"])
        # LoRA's settings are in peft's own file; ours know only a few of another's adapter.
        is_lora, schema = tuner["name"] == "lora", SCHEMAS["tuner"][tuner["name"]]
        config = None if is_lora else schema(**{**tuner, "dtype": TrainableDtype(tuner["dtype"])})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{folder / DESCRIPTION} describes no adapter ({error}); copy the file again"
        ) from error
    check_base(base, model, replaces_weights=isinstance(config, FullConfig))
    if is_lora:
        if not (folder / peft_folders.CONFIG).is_file():
            raise ValueError(f"{folder} lacks {peft_folders.CONFIG}; copy the file there")
        peft_folders.load_peft_folder(model, folder)
        return tuner
    match config:
        case PTuningV2Config():
            insert_prefixes(model, config)
        case FreezeConfig():
            model.requires_grad_(False)
            for layer in find_layers(model)[-config.num_trainable_layers :]:
                layer.requires_grad_(True)
        case FullConfig():
            model.requires_grad_(True)
    state = read_tensors(folder / WEIGHTS)
    expected = set(trainable_parameters(model))
    fill(model, state, source=folder, base=base.name, expected=expected)
    return tuner
