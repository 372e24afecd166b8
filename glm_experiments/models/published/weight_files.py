"""The tensors of a checkpoint folder, by name, whatever the files: read one at a time.

Safetensors or torch's zip files, single or sharded. Knows no model; every broken file is reported
once, by name, before a weight is read.
"""

import pickle
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from glm_experiments.models.published.checksums import check_checksums
from glm_experiments.models.published.settings_files import (
    DOWNLOAD_AGAIN,
    MISREADINGS,
    check_is_content,
    read_settings,
)

SAFETENSORS, TORCH = "model.safetensors", "pytorch_model.bin"
INDEX_SUFFIX = ".index.json"
# For fetching: everything but weights comes with the first format that exists.
FILE_PATTERNS = (("*.safetensors", "*.json", "*.model"), ("*.bin", "*.json", "*.model"))

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies and what it is."""

    file: Path
    shape: tuple[int, ...]
    dtype: torch.dtype


class Checkpoint:
    """A checkpoint's tensors. At most one file is open at a time, and mapped rather than read."""

    def __init__(self, folder: Path, tensors: dict[str, StoredTensor]) -> None:
        self.folder = folder
        self.tensors = tensors
        self._open: tuple[Path, Any] | None = None

    def names(self) -> Iterator[str]:
        """Names, file by file, so that reading in this order opens each file once."""
        yield from sorted(self.tensors, key=lambda name: (self.tensors[name].file.name, name))

    def read(self, name: str) -> torch.Tensor:
        """A tensor on the CPU. It may share memory with the mapped file: copy it to keep it."""
        file = self.tensors[name].file
        if self._open is None or self._open[0] != file:
            self.close()
            self._open = (file, _open_file(file))
        opened = self._open[1]
        tensor: torch.Tensor = opened[name] if isinstance(opened, dict) else opened.get_tensor(name)
        return tensor

    def close(self) -> None:
        """Let go of the open file and its mapping."""
        self._open = None


def open_checkpoint(folder: Path) -> Checkpoint:
    """Find the weight files of a folder and read what they hold, not the weights.

    Raises:
        ValueError: no weights, a missing or broken file, one that has another checksum than the hub
            or its index says, an index that does not fit its files.
    """
    for base in (SAFETENSORS, TORCH):
        index, single = folder / (base + INDEX_SUFFIX), folder / base
        if index.is_file():
            tensors = _read_indexed(index)
            files = sorted({tensor.file for tensor in tensors.values()})
            check_checksums(files, index=read_settings(index))
            return Checkpoint(folder, tensors)
        if single.is_file():
            tensors = _read_header(single)
            check_checksums([single], index={})
            return Checkpoint(folder, tensors)
    shards = sorted(
        entry.name for entry in folder.glob("*-of-*") if entry.suffix in (".safetensors", ".bin")
    )
    if shards:
        base = SAFETENSORS if shards[0].endswith(".safetensors") else TORCH
        raise ValueError(
            f"{folder} has {len(shards)} weight files ({shards[0]}, ...) but not their index; "
            f"download {base}{INDEX_SUFFIX} into it"
        )
    raise ValueError(
        f"{folder} holds no weights: none of {SAFETENSORS}, {SAFETENSORS}{INDEX_SUFFIX}, {TORCH}, "
        f"{TORCH}{INDEX_SUFFIX}; download the model's weights into it"
    )


def _read_indexed(index: Path) -> dict[str, StoredTensor]:
    named = read_settings(index).get("weight_map")
    weight_map = named if isinstance(named, dict) else {}
    shards = sorted(set(weight_map.values()), key=str)
    if not shards or not all(isinstance(shard, str) for shard in shards):
        raise ValueError(f"{index} has no weight_map from tensors to files; {DOWNLOAD_AGAIN}")
    if missing := [shard for shard in shards if not (index.parent / shard).is_file()]:
        raise ValueError(
            f"{index.parent} lacks {', '.join(missing)} ({len(missing)} of {len(shards)} weight "
            f"files that {index.name} names); download the missing files into it"
        )
    headers = {shard: _read_header(index.parent / shard) for shard in shards}
    tensors: dict[str, StoredTensor] = {}
    for name, shard in weight_map.items():
        if name not in headers[shard]:
            raise ValueError(
                f"{index} says that {name} lies in {shard}, which does not hold it; index and "
                "weight files are of different versions: download them again from one revision"
            )
        tensors[name] = headers[shard][name]
    return tensors


def _read_header(file: Path) -> dict[str, StoredTensor]:
    opened = _open_file(file)
    if isinstance(opened, dict):
        return {
            name: StoredTensor(file, tuple(tensor.shape), tensor.dtype)
            for name, tensor in opened.items()
        }
    header: dict[str, StoredTensor] = {}
    for name in opened.keys():  # noqa: SIM118, it is no dict and cannot be iterated over
        part = opened.get_slice(name)
        if part.get_dtype() not in _DTYPES:
            raise ValueError(
                f"{file}: {name} has the dtype {part.get_dtype()}, which no published GLM "
                f"checkpoint has; known are {', '.join(_DTYPES)}"
            )
        header[name] = StoredTensor(file, tuple(part.get_shape()), _DTYPES[part.get_dtype()])
    return header


def _open_file(file: Path) -> Any:
    """A `safe_open` object, or for torch's files a dict of mapped tensors."""
    check_is_content(file)
    if file.suffix == ".safetensors":
        try:
            return safe_open(file, framework="pt")
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"{file} is truncated or no safetensors file ({error}); {DOWNLOAD_AGAIN}"
            ) from error
    return _open_torch_file(file)


def _open_torch_file(file: Path) -> dict[str, torch.Tensor]:
    if not zipfile.is_zipfile(file):
        with file.open("rb") as opened:
            if opened.read(2) == b"PK":
                raise ValueError(f"{file} is truncated; {DOWNLOAD_AGAIN}")
        raise ValueError(
            f"{file} is no zip file as torch.save writes them since torch 1.6; older files and "
            "plain pickles could run code while loading and are refused: convert it to safetensors "
            "(safetensors.torch.save_file) where you trust it, or use a revision that has them"
        )
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{file} holds more than tensors: loading it could run code, so it is refused; "
            "convert it to safetensors (safetensors.torch.save_file) on a machine where you "
            "trust it, or use a revision of the model that has safetensors"
        ) from error
    except (*MISREADINGS, OSError, EOFError) as error:  # damaged pickles end in any of them
        raise ValueError(f"{file} is broken ({error}); {DOWNLOAD_AGAIN}") from error
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor)
        for name, tensor in content.items()
    ):
        raise ValueError(
            f"{file} holds no plain dict of tensors by name; save the model's state_dict() alone"
        )
    return content
