"""A checkpoint's path -> the native model with its weights, each straight on its device.

Decides which layout a folder has, checks that every tensor fits before any is read, and reads them
one by one, so that the host holds no more than the model and one weight file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from glm_experiments.models import published, quantization
from glm_experiments.models.checkpoints import (
    FILE_PATTERNS,
    Checkpoint,
    open_checkpoint,
    read_json,
)
from glm_experiments.models.devices import (
    DeviceMap,
    check_dtype,
    find_device,
    named_devices,
    plan_device_map,
)
from glm_experiments.models.locations import find_model_folder
from glm_experiments.models.published import Converter

ATTENTION_IMPLEMENTATIONS = ("eager", "sdpa", "flex_attention")
# Native layouts whose files hold the module's own names; later members fuse experts while loading.
_SAME_NAMES = ("glm", "glm4")
_GENERATIONS = {
    "transformer.encoder.": "ChatGLM2, ChatGLM3 or GLM-4 as published",
    "transformer.layers.": "ChatGLM-6B as published",
    "model.layers.": "a native model of transformers",
}


@dataclass(frozen=True, slots=True)
class Layout:
    """How a folder's config and tensors become a model; without a converter the library does it."""

    config: Any
    convert: Converter | None
    quantization_bit: int = 0


def load_model(
    path: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device_map: Mapping[str, Any] | torch.device | str | int | None = None,
    revision: str | None = None,
    attn_implementation: str | None = None,
    dequantize: str = "torch",
) -> PreTrainedModel:
    """Load a GLM checkpoint, published or native, as a native module in evaluation mode.

    Args:
        path: a folder, a hub id, or `package:NAME` for a model that ships with the package.
        dtype: of the parameters; None: what the checkpoint says.
        device_map: None (CPU), a device, "auto", or module name -> device.
        revision: branch, tag or commit of a hub id.
        attn_implementation: eager, sdpa or flex_attention; None: the library's choice.
        dequantize: how int8 and int4 checkpoints become floating point: torch (any device) or
            cpm_kernels (CUDA devices of compute capability 6.1 to 8.6).

    Raises:
        ValueError: an unknown path or option; a broken or unknown checkpoint, naming the file.
        RuntimeError: a device or dtype that this machine cannot do; the hub out of reach.
    """
    _check_options(dtype, attn_implementation, dequantize)
    folder = find_model_folder(path, revision=revision, patterns=FILE_PATTERNS)
    settings = _read_settings(folder)
    layout = _find_layout(settings, folder=folder, name=str(path))
    checkpoint = open_checkpoint(folder)
    dtype = dtype or _stored_dtype(settings, checkpoint)
    model = _build_on_meta(layout.config, dtype=dtype, attn_implementation=attn_implementation)
    placement = plan_device_map(model, device_map, dtype=dtype)
    devices = named_devices(placement)
    check_dtype(dtype, devices)
    if dequantize == "cpm_kernels":
        for device in devices:
            quantization.check_cpm_kernels(device)
        if not layout.quantization_bit:
            raise ValueError(
                f"dequantize=cpm_kernels: {path} holds no quantised weights (config.json has no "
                "quantization_bit); leave `dequantize` at torch"
            )
    if layout.convert is None:
        model = _load_with_library(folder, layout.config, dtype, placement, attn_implementation)
    else:
        _load_weights(model, checkpoint, layout, placement, dtype=dtype, dequantize=dequantize)
        _build_buffers(model, placement)
        model.tie_weights()
        _load_generation_config(model, folder)
        _dispatch(model, placement)
    model.config._name_or_path = model.name_or_path = str(path)
    return model.eval()


def _check_options(
    dtype: torch.dtype | None, attn_implementation: str | None, dequantize: str
) -> None:
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise ValueError(f"dtype must be a torch.dtype such as torch.float16, not {dtype!r}")
    if attn_implementation not in (None, *ATTENTION_IMPLEMENTATIONS):
        raise ValueError(
            f"attn_implementation={attn_implementation} is unknown; use one of "
            f"{', '.join(ATTENTION_IMPLEMENTATIONS)}"
        )
    if dequantize not in quantization.METHODS:
        raise ValueError(
            f"dequantize={dequantize} is unknown; use one of {', '.join(quantization.METHODS)}"
        )


def _read_settings(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    if not file.is_file():
        raise ValueError(
            f"{folder} has no config.json; give a folder with a model's config.json and weights "
            "(an adapter's folder is none: load its model first), or download config.json into it"
        )
    return read_json(file)


def _find_layout(settings: Mapping[str, Any], *, folder: Path, name: str) -> Layout:
    """The layout that a config.json describes."""
    model_type = settings.get("model_type")
    bits = int(settings.get("quantization_bit") or 0)
    if bits not in (0, 4, 8):
        raise ValueError(
            f"{folder / 'config.json'}: quantization_bit={bits}; published are 4 and 8"
        )
    try:
        if model_type == "chatglm" and "multi_query_attention" in settings:
            config = published.build_config(settings, name=name)
            return Layout(config, published.build_converter(config), bits)
    except KeyError as error:
        raise ValueError(
            f"{folder / 'config.json'} lacks {error}, which every config.json of its kind has; "
            "download it again"
        ) from error
    if isinstance(model_type, str) and model_type.startswith("glm"):
        if model_type in CONFIG_MAPPING_NAMES:
            config = AutoConfig.from_pretrained(folder)
            return Layout(config, _keep_name if model_type in _SAME_NAMES else None)
        reason = f"the installed transformers does not know model_type {model_type!r}"
    elif model_type == "chatglm":
        reason = "its model_type is 'chatglm', but it has the keys of neither ChatGLM-6B nor later"
    else:
        reason = f"its model_type is {model_type!r}"
    raise ValueError(
        f"{folder / 'config.json'} describes no GLM model that can be loaded: {reason}; known are "
        "chatglm (ChatGLM-6B, ChatGLM2-6B, ChatGLM3-6B, GLM-4-9B as published), glm, glm4 and the "
        "later native members"
    )


def _keep_name(name: str, tensor: torch.Tensor) -> list[tuple[str, torch.Tensor]] | None:
    return [] if name.endswith("rotary_emb.inv_freq") else [(name, tensor)]


def _stored_dtype(settings: Mapping[str, Any], checkpoint: Checkpoint) -> torch.dtype:
    named = settings.get("dtype") or settings.get("torch_dtype")
    dtype = getattr(torch, str(named), None)
    if isinstance(dtype, torch.dtype):
        return dtype
    stored = [tensor.dtype for tensor in checkpoint.tensors.values()]
    return next((dtype for dtype in stored if dtype.is_floating_point), torch.float32)


def _build_on_meta(
    config: Any, *, dtype: torch.dtype, attn_implementation: str | None
) -> PreTrainedModel:
    options = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype, **options)
    return model


def _load_weights(
    model: PreTrainedModel,
    checkpoint: Checkpoint,
    layout: Layout,
    placement: DeviceMap,
    *,
    dtype: torch.dtype,
    dequantize: str,
) -> None:
    """Read every tensor, dequantise and convert it on its device, and put it into the model."""
    convert = layout.convert
    assert convert is not None
    sources = plan_sources(model, checkpoint, convert, bits=layout.quantization_bit)
    tied: dict[str, str] = model.all_tied_weights_keys
    for name in checkpoint.names():
        targets = [target for target, source in sources.items() if source == name]
        if not targets:
            continue
        if targets[0] in tied:
            _check_tied(checkpoint, name, sources[tied[targets[0]]])
            continue
        tensor = checkpoint.read(name)
        # A fused tensor's parts belong to one attention module, so to one device.
        device = find_device(targets[0], placement)
        if name + quantization.SCALE_SUFFIX in checkpoint.tensors:
            tensor = quantization.dequantize_weight(
                tensor.to(device),
                checkpoint.read(name + quantization.SCALE_SUFFIX).to(device),
                bits=layout.quantization_bit,
                dtype=dtype,
                method=dequantize,
            )
        for target, part in convert(name, tensor) or []:
            kept = part.to(device=device, dtype=dtype, copy=True).contiguous()
            module = model.get_submodule(target.rpartition(".")[0])
            setattr(module, target.rpartition(".")[2], nn.Parameter(kept))
        del tensor
    checkpoint.close()


def plan_sources(
    model: PreTrainedModel, checkpoint: Checkpoint, convert: Converter, *, bits: int
) -> dict[str, str]:
    """Parameter of the model -> stored tensor that fills it, all checked by name and shape.

    Raises:
        ValueError: naming what is missing, left over, of the wrong shape or of the wrong kind.
    """
    tensors, folder = checkpoint.tensors, checkpoint.folder
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    _check_generation(expected, checkpoint, convert)
    sources: dict[str, str] = {}
    left_over: list[str] = []
    for name in checkpoint.names():
        stored = tensors[name]
        if name.removesuffix(quantization.SCALE_SUFFIX) != name:
            if name.removesuffix(quantization.SCALE_SUFFIX) not in tensors:
                left_over.append(name)
            continue
        shape = stored.shape
        is_quantized = name + quantization.SCALE_SUFFIX in tensors
        if is_quantized and bits == 4:
            shape = (*shape[:-1], shape[-1] * 2)
        converted = convert(name, torch.empty(shape, device="meta"))
        if converted is None or any(target not in expected for target, _ in converted):
            left_over.append(name)
            continue
        for target, part in converted:
            if tuple(part.shape) != expected[target]:
                raise ValueError(
                    f"{stored.file}: {name} has the shape {stored.shape}, but config.json of "
                    f"{folder} makes {target} {expected[target]}; config.json and weights are "
                    "of different models: download both from one place"
                )
            sources[target] = name
        if converted:
            _check_kind(name, stored.dtype, is_quantized, bits, file=stored.file)
    missing = [name for name in expected if name not in sources]
    missing = [name for name in missing if name not in model.all_tied_weights_keys]
    if missing or left_over:
        problems = [f"lacks what fills {_list(missing)}"] if missing else []
        problems += [f"holds {_list(left_over)}, which have no place"] if left_over else []
        raise ValueError(
            f"{folder}: the checkpoint {' and '.join(problems)} in {type(model).__name__}; "
            "config.json and weights are of different models, or files are incomplete: download "
            "the folder again"
        )
    return sources


def _check_generation(expected: Any, checkpoint: Checkpoint, convert: Converter) -> None:
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


def _check_kind(
    name: str, dtype: torch.dtype, is_quantized: bool, bits: int, *, file: Path
) -> None:
    if is_quantized and not bits:
        raise ValueError(
            f"{file}: {name} is quantised (it has a {quantization.SCALE_SUFFIX} beside it), but "
            "config.json has no quantization_bit; add 4 or 8, as the model was published"
        )
    if dtype.is_floating_point == is_quantized:
        raise ValueError(
            f"{file}: {name} is {dtype}, "
            + ("but has a scale beside it" if is_quantized else "and has no scale beside it")
            + "; published are floating-point weights, or int8 weights with a "
            f"{quantization.SCALE_SUFFIX} each: download the file again"
        )


def _check_tied(checkpoint: Checkpoint, head: str, embedding: str) -> None:
    """A tied head is one tensor with the embedding, and may be stored a second time."""
    if torch.equal(checkpoint.read(head), checkpoint.read(embedding)):
        return
    raise ValueError(
        f"{checkpoint.tensors[head].file}: {head} differs from {embedding}, although the model "
        "ties them to one tensor; the checkpoint was written by a program that untied them: set "
        "tie_word_embeddings=false where the layout has it, or use the published weights"
    )


def _list(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown


def _build_buffers(model: PreTrainedModel, placement: DeviceMap) -> None:
    """Compute the buffers that no checkpoint stores (rotary tables), lost by building on meta."""
    for name, module in model.named_modules():
        lost = [key for key, buffer in module.named_buffers(recurse=False) if buffer.is_meta]
        if not lost:
            continue
        assert not any(True for _ in module.parameters()), f"{name} mixes tables and parameters"
        fresh = type(module)(model.config)
        for key in lost:
            module._buffers[key] = fresh.get_buffer(key).to(find_device(name, placement))


def _load_generation_config(model: PreTrainedModel, folder: Path) -> None:
    """The published generation settings where there are some; end tokens then come from them."""
    if not (folder / "generation_config.json").is_file():
        return
    read_json(folder / "generation_config.json")
    from_config = model.generation_config
    model.generation_config = GenerationConfig.from_pretrained(folder)
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if getattr(model.generation_config, key) is None:
            setattr(model.generation_config, key, getattr(from_config, key))


def _dispatch(model: PreTrainedModel, placement: DeviceMap) -> None:
    """Let hidden states follow the layers from device to device."""
    model.hf_device_map = dict(placement)
    devices = named_devices(placement)
    if len(devices) == 1:
        return
    from accelerate import dispatch_model

    # With a GPU as the main device, accelerate would take "cpu" to mean "kept there, computed on
    # the GPU" and leave the weights on meta, where they cannot be trained.
    main = "cpu" if "cpu" in placement.values() else next(iter(placement.values()))
    dispatch_model(model, device_map=dict(placement), main_device=main)
    model.hf_device_map = dict(placement)


def _load_with_library(
    folder: Path,
    config: Any,
    dtype: torch.dtype,
    placement: DeviceMap,
    attn_implementation: str | None,
) -> PreTrainedModel:
    """Members whose files transformers itself converts (fused experts), checked for completeness."""
    options = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
    model, report = AutoModelForCausalLM.from_pretrained(
        folder,
        config=config,
        dtype=dtype,
        device_map=placement,
        output_loading_info=True,
        **options,
    )
    problems = {
        kind: sorted(str(name) for name in report[kind])
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
        if report[kind]
    }
    if problems:
        described = "; ".join(f"{kind}: {_list(names)}" for kind, names in problems.items())
        raise ValueError(
            f"{folder}: the checkpoint does not fit {type(model).__name__}: {described}; download "
            "the folder again"
        )
    loaded: PreTrainedModel = model
    loaded.hf_device_map = dict(placement)
    return loaded
