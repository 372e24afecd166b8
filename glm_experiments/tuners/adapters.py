"""A tuned model <-> a folder that holds what was trained and all that is needed to use it.

`adapter.json` describes tuner, base and prompt format, `adapter_model.safetensors` holds the
trained tensors; a LoRA folder is also one that peft reads. Adapters of others load, too.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from transformers import PreTrainedModel

from glm_experiments.config import SCHEMAS, OwnWeights, TunerConfig
from glm_experiments.models.published.settings_files import blame, read_settings
from glm_experiments.record.files import ADAPTER, MARKER, numbered_checkpoints
from glm_experiments.record.files import ADAPTER_DESCRIPTION as DESCRIPTION
from glm_experiments.record.markers import what_is_broken
from glm_experiments.record.versions import KEY, VERSION, migrate_config, read_version
from glm_experiments.tuners import peft_folders, published_prefix
from glm_experiments.tuners.choosing import choose_tuner, kind_of_tuner
from glm_experiments.tuners.interface import WEIGHTS, Tuner
from glm_experiments.tuners.lora import Lora
from glm_experiments.tuners.origins import (
    Base,
    Origin,
    check_base,
    check_plain,
    describe_base,
    find_origin,
    remember_origin,
)
from glm_experiments.tuners.p_tuning_v2 import PTuningV2
from glm_experiments.tuners.weights import Tensors, read_tensors, trainable_parameters

# Puts an adapter onto a model; returns the tuner's settings.
Load = Callable[[PreTrainedModel], dict[str, Any]]


class TunerAdapter:
    """How a tuned model's trained parameters are kept on disk; holds no tensor itself.

    base, revision: by which the base is loaded again.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        prompt_format: str,
        base: str,
        revision: str | None = None,
    ) -> None:
        origin = find_origin(model)
        if origin is None:
            raise ValueError("the model carries no adapter to save; apply a tuner first")
        self.tuner = origin.tuner
        self.write_companions = origin.tuner.plan_companions(model, base=base, revision=revision)
        self.description = {
            KEY: VERSION,
            "kind": kind_of_tuner(origin.tuner),
            "tuner": origin.settings,
            "prompt_format": str(prompt_format),
            "base": {**asdict(origin.base), "name": base},
        }

    def save(self, folder: Path, state: Tensors) -> None:
        """Write the trained parameters, by their names in the model.

        Raises:
            ValueError: where there are none.
        """
        if not state:
            raise ValueError(f"there is nothing trained to save into {folder}; check the tuner")
        folder.mkdir(parents=True, exist_ok=True)
        if self.write_companions is not None:
            self.write_companions(folder)
        save_file(
            {self.tuner.to_file_name(name): value.contiguous() for name, value in state.items()},
            folder / WEIGHTS,
            metadata={"format": "pt"},
        )
        text = json.dumps(self.description, ensure_ascii=False, indent=2)
        (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")
        # safetensors 0.8 lets only the owner read its files; whoever may read one may read both.
        (folder / WEIGHTS).chmod((folder / DESCRIPTION).stat().st_mode)

    def read(self, folder: Path) -> Tensors:
        """The trained parameters that `save` wrote, by their names in the model."""
        state = read_tensors(folder / WEIGHTS)
        return {self.tuner.from_file_name(name): value for name, value in state.items()}


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
    tuner, load = find_loader(path)
    base = describe_base(model)
    trains = {name: each.requires_grad for name, each in model.named_parameters()}
    try:
        with blame(path):
            settings = load(model)
    except ValueError:
        tuner.remove(model)
        for name, each in model.named_parameters():
            each.requires_grad_(trains[name])
        raise
    trained = frozenset(trainable_parameters(model))
    remember_origin(model, Origin(tuner=tuner, settings=settings, base=base, trained=trained))
    model.requires_grad_(False)
    model.train(False)
    return model


def find_loader(path: Path) -> tuple[Tuner[Any], Load]:
    """The tuner of whatever kind of adapter a path holds, and what puts it onto a model.

    Raises:
        ValueError: for what is no adapter. The loader: for what doesn't fit the model, with
            adapters in it.
    """
    if (path / DESCRIPTION).is_file():
        return find_own(path)
    if (path / peft_folders.CONFIG).is_file():
        return Lora(), functools.partial(peft_folders.load_peft_folder, folder=path)
    if published_prefix.is_published_prefix(path):
        return PTuningV2(), functools.partial(published_prefix.load_published_prefix, folder=path)
    if path.is_file():
        return Lora(), functools.partial(peft_folders.load_bare_file, file=path)
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
    if (path / ADAPTER / DESCRIPTION).is_file():
        return path / ADAPTER
    files = list(path.glob("*.pt"))
    return files[0] if len(files) == 1 else path


def name_nearby(folder: Path) -> str:
    """A hint at the checkpoints below a folder, where there are some."""
    checkpoints = list(numbered_checkpoints(folder).values())
    return f"; did you mean {checkpoints[-1]}?" if checkpoints else ""


def find_own(folder: Path) -> tuple[Tuner[Any], Load]:
    """The tuner of an adapter that `TunerAdapter.save` wrote, and what puts it onto a model."""
    if (folder / MARKER).is_file() and (problem := what_is_broken(folder)) is not None:
        raise ValueError(f"{folder} can't be used: {problem}; copy it again")
    description = read_settings(folder / DESCRIPTION)
    version = read_version(description, source=folder / DESCRIPTION)
    try:
        settings: dict[str, Any] = migrate_config(version, {"tuner": description["tuner"]})["tuner"]
        base = Base(**description["base"])
        # What says no kind has the name of one.
        kind = description.get("kind", settings["name"])
        schema: type[TunerConfig] = SCHEMAS["tuner"][kind]
        tuner = choose_tuner(schema)
        config = tuner.read_config(schema, settings)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{folder / DESCRIPTION} describes no adapter ({error}); copy the file again"
        ) from error

    def load(model: PreTrainedModel) -> dict[str, Any]:
        check_base(
            base, model, source=folder, replaces_weights=schema.own_weights is OwnWeights.all
        )
        tuner.load(model, config, folder=folder, base=base.name)
        return settings

    return tuner, load
