"""A checkpoint's path -> the native model with its weights: the steps, in order.

Decides dtype, devices and who reads the weights; layouts, files and tensors are their modules'.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from glm_experiments.models.attention import IMPLEMENTATIONS
from glm_experiments.models.device_hooks import mark_split
from glm_experiments.models.devices import (
    DeviceMap,
    check_capabilities,
    check_dtype,
    find_device,
    named_devices,
    plan_device_map,
)
from glm_experiments.models.published import dequantization
from glm_experiments.models.published.filling import fill_model
from glm_experiments.models.published.layout_finding import find_layout
from glm_experiments.models.published.layouts import Layout
from glm_experiments.models.published.locations import find_model_folder
from glm_experiments.models.published.settings_files import blame, read_settings
from glm_experiments.models.published.weight_files import (
    FILE_PATTERNS,
    Checkpoint,
    open_checkpoint,
)


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
    layout = find_layout(folder, name=str(path))
    checkpoint = open_checkpoint(folder)
    dtype = dtype or _stored_dtype(layout, checkpoint)
    check_dtype(dtype)
    with blame(folder / "config.json"):
        model = _build_on_meta(layout.config, dtype=dtype, attn_implementation=attn_implementation)
    planned = plan_device_map(model, device_map, dtype=dtype)
    devices = named_devices(planned)
    check_capabilities(devices, dtype=dtype)
    if dequantize == "cpm_kernels":
        for device in devices:
            dequantization.check_cpm_kernels(device)
        if not layout.quantization_bit:
            raise ValueError(
                f"dequantize=cpm_kernels: {path} holds no quantised weights (config.json has no "
                "quantization_bit); leave `dequantize` at torch"
            )
    if layout.convert is None:
        model = _load_with_library(folder, layout.config, dtype, planned, attn_implementation)
    else:
        fill_model(model, checkpoint, layout, planned, dtype=dtype, dequantize=dequantize)
        _build_buffers(model, planned)
        model.tie_weights()
        _load_generation_config(model, folder)
        _dispatch(model, planned)
    model.config.name_or_path = model.name_or_path = str(path)
    model.eval()  # type: ignore[no-untyped-call]
    return model


def _check_options(
    dtype: torch.dtype | None, attn_implementation: str | None, dequantize: str
) -> None:
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise ValueError(f"dtype must be a torch.dtype such as torch.float16, not {dtype!r}")
    if attn_implementation not in (None, *IMPLEMENTATIONS):
        raise ValueError(
            f"attn_implementation={attn_implementation} is unknown; use one of "
            f"{', '.join(IMPLEMENTATIONS)}"
        )
    if dequantize not in dequantization.METHODS:
        raise ValueError(
            f"dequantize={dequantize} is unknown; use one of {', '.join(dequantization.METHODS)}"
        )
    if dequantize == "cpm_kernels" and not torch.cuda.is_available():
        dequantization.check_cpm_kernels(torch.device("cpu"))


def _stored_dtype(layout: Layout, checkpoint: Checkpoint) -> torch.dtype:
    named = getattr(torch, str(layout.dtype), None)
    if isinstance(named, torch.dtype):
        return named
    stored = [tensor.dtype for tensor in checkpoint.tensors.values()]
    return next((dtype for dtype in stored if dtype.is_floating_point), torch.float32)


def _build_on_meta(
    config: Any, *, dtype: torch.dtype, attn_implementation: str | None
) -> PreTrainedModel:
    options = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, dtype=dtype, **options
        )
    return model


def _build_buffers(model: PreTrainedModel, device_map: DeviceMap) -> None:
    """Compute the buffers that no checkpoint stores (rotary tables), lost by building on meta."""
    for name, module in model.named_modules():
        lost = [key for key, buffer in module.named_buffers(recurse=False) if buffer.is_meta]
        if not lost:
            continue
        assert not any(True for _ in module.parameters()), f"{name} mixes tables and parameters"
        fresh = type(module)(model.config)
        for key in lost:
            setattr(module, key, fresh.get_buffer(key).to(find_device(name, device_map)))


def _load_generation_config(model: PreTrainedModel, folder: Path) -> None:
    """The published generation settings where there are some; end tokens then come from them."""
    if not (folder / "generation_config.json").is_file():
        return
    read_settings(folder / "generation_config.json")
    from_config = model.generation_config
    with blame(folder / "generation_config.json"):
        model.generation_config = GenerationConfig.from_pretrained(folder)
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if getattr(model.generation_config, key) is None:
            setattr(model.generation_config, key, getattr(from_config, key))


def _dispatch(model: PreTrainedModel, device_map: DeviceMap) -> None:
    """Let hidden states follow the layers from device to device."""
    devices = named_devices(device_map)
    if len(devices) > 1 and torch.device("meta") not in devices:
        from accelerate import dispatch_model

        # Left to itself (accelerate 1.15) it takes any of them for the first.
        dispatch_model(model, device_map=device_map, main_device=next(iter(device_map.values())))
    if len(device_map) > 1:
        mark_split(model, device_map)


def _load_with_library(
    folder: Path,
    config: Any,
    dtype: torch.dtype,
    device_map: DeviceMap,
    attn_implementation: str | None,
) -> PreTrainedModel:
    """Members whose files transformers itself converts (fused experts), and must fit as well."""
    options = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        config=config,
        dtype=dtype,
        device_map=device_map,
        output_loading_info=True,
        **options,
    )
    model: PreTrainedModel = loaded[0]
    problems = [
        f"{kind}: {', '.join(sorted(map(str, loaded[1][kind])))}"
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
        if loaded[1][kind]
    ]
    if problems:
        raise ValueError(
            f"{folder}: the checkpoint does not fit {type(model).__name__}: "
            f"{'; '.join(problems)}; download the folder again"
        )
    return model
