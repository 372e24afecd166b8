"""A checkpoint's tensors -> a model's parameters, each straight on its device.

Checks that every tensor has its place before any is read, then reads them one by one, so that the
host holds no more than the model and one weight file.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from glm_experiments.models.devices import DeviceMap, find_device
from glm_experiments.models.published import dequantization
from glm_experiments.models.published.dequantization import SCALE_SUFFIX
from glm_experiments.models.published.layouts import Converter, Layout
from glm_experiments.models.published.weight_files import Checkpoint, StoredTensor

_GENERATIONS = {
    "transformer.encoder.": "ChatGLM2, ChatGLM3 or GLM-4 as published",
    "transformer.layers.": "ChatGLM-6B",
    "model.layers.": "a native model of transformers",
}
_NUM_NAMED = 10


def fill_model(
    model: PreTrainedModel,
    checkpoint: Checkpoint,
    layout: Layout,
    device_map: DeviceMap,
    *,
    dtype: torch.dtype,
    dequantize: str,
) -> None:
    """Replace a model's parameters (on meta) by the checkpoint's, in `dtype` on their devices.

    Raises:
        ValueError: the checkpoint does not fit, naming what is missing, left over or different.
    """
    convert, bits = layout.convert, layout.quantization_bit
    assert convert is not None
    plan = plan_targets(model, checkpoint, convert, bits=bits)
    tied: Mapping[str, str] = model.all_tied_weights_keys
    sources = {target: name for name, targets in plan.items() for target in targets}
    for name, targets in plan.items():
        if targets[0] in tied:
            _check_tied(checkpoint, name, sources[tied[targets[0]]])
            continue
        # A fused tensor's parts belong to one attention module, so to one device.
        device = find_device(targets[0], device_map)
        tensor = checkpoint.read(name)
        is_quantized = name + SCALE_SUFFIX in checkpoint.tensors
        if is_quantized:
            tensor = dequantization.dequantize_weight(
                tensor.to(device),
                checkpoint.read(name + SCALE_SUFFIX).to(device),
                bits=bits,
                dtype=dtype,
                method=dequantize,
            )
        for target, part in convert(name, tensor) or []:
            # What shares memory with the file, or with a fused tensor, would keep all of it.
            is_own = is_quantized and part.untyped_storage().nbytes() == part.nbytes
            kept = part.to(device=device, dtype=dtype, copy=not is_own).contiguous()
            module, _, attribute = target.rpartition(".")
            setattr(model.get_submodule(module), attribute, nn.Parameter(kept))
    checkpoint.close()


def plan_targets(
    model: PreTrainedModel, checkpoint: Checkpoint, convert: Converter, *, bits: int
) -> dict[str, list[str]]:
    """Stored tensor, in the order to read -> parameters that it fills; names and shapes checked.

    Raises:
        ValueError: naming what is missing, left over, of the wrong shape or of the wrong kind.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    _check_generation(expected, checkpoint, convert)
    plan: dict[str, list[str]] = {}
    left_over: list[str] = []
    for name in checkpoint.names():
        stored = checkpoint.tensors[name]
        if name.endswith(SCALE_SUFFIX) and name.removesuffix(SCALE_SUFFIX) in checkpoint.tensors:
            continue
        scale = checkpoint.tensors.get(name + SCALE_SUFFIX)
        shape = stored.shape
        if scale is not None and bits == 4:
            shape = (*shape[:-1], shape[-1] * 2)
        converted = convert(name, torch.empty(shape, device="meta"))
        if converted is None or any(target not in expected for target, _ in converted):
            left_over.append(name)
            continue
        for target, part in converted:
            if tuple(part.shape) != expected[target]:
                raise ValueError(
                    f"{stored.file}: {name} has the shape {stored.shape}, but config.json of "
                    f"{checkpoint.folder} makes {target} {expected[target]}; config.json and "
                    "weights are of different models: download both from one place"
                )
        if converted:
            _check_kind(name, stored, scale, bits)
            plan[name] = [target for target, _ in converted]
    filled = {target for targets in plan.values() for target in targets}
    missing = [name for name in expected if name not in filled | model.all_tied_weights_keys.keys()]
    if missing or left_over:
        problems = [f"lacks what fills {_list(missing)}"] if missing else []
        problems += [f"holds {_list(left_over)}, which has no place"] if left_over else []
        raise ValueError(
            f"{checkpoint.folder}: the checkpoint {' and '.join(problems)} in "
            f"{type(model).__name__}; config.json and weights are of different models, or files "
            "are incomplete: download the folder again"
        )
    return plan


def _check_generation(
    expected: Mapping[str, tuple[int, ...]], checkpoint: Checkpoint, convert: Converter
) -> None:
    """A checkpoint of another generation is reported as that, not as a list of its names."""
    fits = any(
        target in expected
        for name in checkpoint.tensors
        for target, _ in convert(name, torch.empty(1, device="meta")) or []
    )
    if fits:
        return
    found = [
        meaning
        for prefix, meaning in _GENERATIONS.items()
        if any(name.startswith(prefix) for name in checkpoint.tensors)
    ]
    names = f"those of {found[0]}" if found else f"such as {_list(list(checkpoint.tensors)[:3])}"
    raise ValueError(
        f"{checkpoint.folder}: config.json describes another generation of GLM than the weights "
        f"beside it, whose names are {names}; take both from the same model"
    )


def _check_kind(name: str, stored: StoredTensor, scale: StoredTensor | None, bits: int) -> None:
    """Floating-point weights stand alone, int8 ones have a scale a row and config.json says so."""
    if scale is None:
        problem = None if stored.dtype.is_floating_point else "and has no scale beside it"
    elif stored.dtype.is_floating_point:
        problem = "but has a scale beside it"
    elif scale.shape != stored.shape[:1]:
        problem = f"of the shape {stored.shape}, but its scales have {scale.shape}"
    elif not bits:
        raise ValueError(
            f"{stored.file}: {name} is quantised (it has a {SCALE_SUFFIX} beside it), but "
            "config.json has no quantization_bit; add 4 or 8, as the model was published"
        )
    else:
        problem = None
    if problem is not None:
        raise ValueError(
            f"{stored.file}: {name} is {stored.dtype}, {problem}; published are floating-point "
            f"weights, or int8 weights with a {SCALE_SUFFIX} each: download the file again"
        )


def _check_tied(checkpoint: Checkpoint, head: str, embedding: str) -> None:
    """A tied head is one tensor with the embedding, and may be stored a second time."""
    if torch.equal(checkpoint.read(head), checkpoint.read(embedding)):
        return
    file: Path = checkpoint.tensors[head].file
    raise ValueError(
        f"{file}: {head} differs from {embedding}, although the model ties them to one tensor; "
        "the checkpoint was written by a program that untied them: use the published weights"
    )


def _list(names: list[str]) -> str:
    shown = ", ".join(names[:_NUM_NAMED])
    more = len(names) - _NUM_NAMED
    return f"{shown} and {more} more" if more > 0 else shown
