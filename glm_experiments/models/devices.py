"""On which device each part of a model goes, and whether that device can do what is asked.

Plans from the model's structure (on `meta`) and the visible devices; moves nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

# Values are torch.device, never "cpu": the libraries read that string as "kept there, computed on
# the GPU", with weights on meta that cannot be trained.
DeviceMap = dict[str, torch.device]
AUTOMATIC = ("auto", "balanced", "balanced_low_0", "sequential")


def plan_device_map(
    model: Any,
    device_map: Mapping[str, Any] | torch.device | str | int | None,
    *,
    dtype: torch.dtype,
) -> DeviceMap:
    """Module name -> device, covering every tensor of the model, the input embedding's first.

    None and a single device put everything there (None: the CPU); "auto" and its kin fill the
    visible GPUs; a dict is checked. A tied head is put with the embedding: they are one tensor.

    Raises:
        ValueError: an unknown device or module, or a tensor that the map leaves out.
        RuntimeError: a device that this machine lacks, or too little memory for "auto".
    """
    if isinstance(device_map, str) and device_map in AUTOMATIC:
        return _plan_automatic(model, device_map, dtype=dtype)
    if not isinstance(device_map, Mapping):
        return {"": _find_device("cpu" if device_map is None else device_map)}
    planned = {module: _find_device(device) for module, device in device_map.items()}
    modules = {name for name, _ in model.named_modules()}
    if unknown := sorted(module for module in planned if module not in modules):
        raise ValueError(
            f"device_map names {', '.join(unknown)}, which {type(model).__name__} does not have; "
            f"its parts are {', '.join(_describe_parts(modules))}"
        )
    left_out = [name for name in model.state_dict() if _find_entry(name, planned) is None]
    if left_out:
        parts = dict.fromkeys(_describe_part(name) for name in left_out)
        raise ValueError(f"device_map leaves out {', '.join(parts)}; give each a device")
    for target, source in model.all_tied_weights_keys.items():
        head, embedding = target.rpartition(".")[0], source.rpartition(".")[0]
        if find_device(head, planned) != find_device(embedding, planned):
            planned[head] = planned[_find_entry(embedding, planned) or ""]
    flat = dict(_flatten(model, "", planned))
    inputs = next(
        name for name, module in model.named_modules() if module is model.get_input_embeddings()
    )
    first = _find_entry(inputs, flat)
    assert first is not None
    return {first: flat[first]} | flat


def _flatten(
    module: nn.Module, name: str, device_map: DeviceMap
) -> Iterator[tuple[str, torch.device]]:
    """The same map without entries inside entries, which accelerate 1.15 gives the outer device."""
    if not any(
        entry.startswith(f"{name}." if name else "") and entry != name for entry in device_map
    ):
        entry = _find_entry(name, device_map)
        if entry is not None:
            yield name, device_map[entry]
        return
    for child_name, child in module.named_children():
        yield from _flatten(child, f"{name}.{child_name}" if name else child_name, device_map)


def find_device(name: str, device_map: DeviceMap) -> torch.device:
    """The device of a module or tensor: that of its nearest named parent.

    A module without an entry that holds no stored tensor (a rotary table) goes to the first.
    """
    entry = _find_entry(name, device_map)
    return next(iter(device_map.values())) if entry is None else device_map[entry]


def named_devices(device_map: DeviceMap) -> list[torch.device]:
    """The different devices of a map, in its order."""
    return list(dict.fromkeys(device_map.values()))


def check_dtype(dtype: torch.dtype) -> None:
    """Refuse with ValueError what is no floating-point dtype of 16 bits or more."""
    if dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        raise ValueError(
            f"a model cannot be loaded in {dtype}; use torch.float16, torch.bfloat16 or "
            "torch.float32 (model.dtype=float16|bfloat16|float32)"
        )


def check_capabilities(devices: Iterable[torch.device], *, dtype: torch.dtype) -> None:
    """Refuse a dtype that one of the devices cannot compute in.

    Raises:
        RuntimeError: naming dtype, device and what to use instead.
    """
    for device in devices:
        capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
        if problem := dtype_problem(dtype, device.type, capability=capability):
            raise RuntimeError(f"{device} cannot compute in {dtype}: {problem}")


def dtype_problem(
    dtype: torch.dtype, device_type: str, *, capability: tuple[int, int] | None
) -> str | None:
    """Why a kind of device cannot compute in a dtype, with what to type, or None."""
    if dtype is torch.bfloat16 and capability is not None and capability < (8, 0):
        return (
            f"bfloat16 needs compute capability 8.0, this device has "
            f"{capability[0]}.{capability[1]}; use model.dtype=float16"
        )
    if dtype is torch.float64 and device_type == "mps":
        return "it has no float64; use model.dtype=float32"
    return None


def choose_dtype(devices: Iterable[torch.device]) -> torch.dtype:
    """The 16-bit dtype of a model whose parts lie on these devices: bfloat16, whose range needs no
    loss scale, and float16 where a GPU has none (before compute capability 8.0: V100, T4).

    A CPU has it from torch, if not faster than float32 then in half the memory.
    """
    gpus = [device for device in devices if device.type == "cuda"]
    return torch.bfloat16 if all(map(has_bfloat16, gpus)) else torch.float16


def has_bfloat16(device: torch.device) -> bool:
    """Whether a GPU computes in bfloat16 itself; by default torch counts what it emulates."""
    with torch.cuda.device(device):
        has: bool = torch.cuda.is_bf16_supported(including_emulation=False)
    return has


def _plan_automatic(model: Any, strategy: str, *, dtype: torch.dtype) -> DeviceMap:
    from accelerate import infer_auto_device_map
    from accelerate.utils import get_balanced_memory, get_max_memory

    if not torch.cuda.is_available():
        return {"": torch.device("cpu")}
    whole = list(model._no_split_modules or [])
    memory = (
        get_max_memory()
        if strategy == "sequential"
        else get_balanced_memory(
            model,
            dtype=dtype,
            low_zero=strategy == "balanced_low_0",
            no_split_module_classes=whole,
        )
    )
    planned = infer_auto_device_map(
        model, max_memory=memory, no_split_module_classes=whole, dtype=dtype
    )
    if "disk" in planned.values():
        raise RuntimeError(
            f"device_map={strategy}: the model in {dtype} does not fit the memory of the GPUs and "
            "the host; use a smaller dtype, more devices or a smaller model"
        )
    return {module: _find_device(device) for module, device in planned.items()}


def _find_device(device: Any) -> torch.device:
    """A device that this machine has, however it is written; an integer is a CUDA index."""
    try:
        found = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"device_map: {device!r} is no device; use cpu, cuda, cuda:0, a CUDA index, or one of "
            f"{', '.join(AUTOMATIC)}"
        ) from error
    if found.type == "cuda":
        index, count = found.index or 0, torch.cuda.device_count()
        if index >= count:
            raise RuntimeError(
                f"device_map: there is no cuda:{index}; this machine shows {count} CUDA device(s)"
            )
        return torch.device("cuda", index)
    if found.type not in ("cpu", "meta", "mps") or (
        found.type == "mps" and not torch.backends.mps.is_available()
    ):
        raise ValueError(f"device_map: {device!r} cannot hold a model here; use cpu or cuda")
    return torch.device(found.type)


def _find_entry(name: str, device_map: Mapping[str, Any]) -> str | None:
    while name not in device_map:
        if not name:
            return None
        name = name.rpartition(".")[0]
    return name


def _describe_part(name: str) -> str:
    """The part of a model that a device map speaks of: `model.layers.3`, `lm_head`, ..."""
    pieces = name.split(".")
    return ".".join(pieces[: 3 if "layers" in pieces[:2] else 2 if pieces[0] == "model" else 1])


def _describe_parts(modules: Iterable[str]) -> list[str]:
    return sorted({_describe_part(name) for name in modules if name and name != "model"})
