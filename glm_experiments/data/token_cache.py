"""Token ids of many samples as flat arrays, and the file that keeps them for the next run.

Knows neither text nor tokenizer, nor the folder of such files.
"""

import json
import logging
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BadRowNote:
    """A row of a split that couldn't be encoded; `needed_length`: tokens that it would need."""

    row: int
    reason: str
    message: str
    needed_length: int


@dataclass(frozen=True, slots=True)
class TokenTable:
    """Samples of one split, one behind the other.

    Attributes:
        input_ids: (tokens,), int32. is_trained: (tokens,), bool.
        offsets: (samples + 1,), int64: where each sample begins and the last ends.
        rows: (samples,), int64: the row of the split that a sample was made from.
        num_truncated: samples that were cut. num_cut: tokens that were cut off.
        bad_rows: rows that no sample was made from.
        num_cut_answers: samples that lack the end of their last answer.
    """

    input_ids: NDArray[np.int32]
    is_trained: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    rows: NDArray[np.int64]
    num_truncated: int = 0
    num_cut: int = 0
    bad_rows: tuple[BadRowNote, ...] = ()
    num_cut_answers: int = 0


ARRAYS = ("input_ids", "is_trained", "offsets", "rows")
PARTIAL = re.compile(r"\..+\.safetensors\..+")
"""The name of a file that is being written."""


def join_tables(tables: Iterable[TokenTable]) -> TokenTable:
    """The samples of all tables in one; each table's rows are numbered in the whole split."""
    parts = list(tables)
    lengths = [np.diff(part.offsets) for part in parts]
    return TokenTable(
        np.concatenate([part.input_ids for part in parts]),
        np.concatenate([part.is_trained for part in parts]),
        np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(lengths))]),
        np.concatenate([part.rows for part in parts]),
        sum(part.num_truncated for part in parts),
        sum(part.num_cut for part in parts),
        tuple(note for part in parts for note in part.bad_rows),
        sum(part.num_cut_answers for part in parts),
    )


def write_tables(file: Path, tables: Mapping[str, TokenTable]) -> None:
    """Write the tables of all splits as safetensors, at once or not at all."""
    tensors = {
        f"{split}/{name}": np.ascontiguousarray(getattr(table, name))
        for split, table in tables.items()
        for name in ARRAYS
    }
    facts = [
        {
            "split": split,
            "num_truncated": table.num_truncated,
            "num_cut": table.num_cut,
            "num_cut_answers": table.num_cut_answers,
            "bad_rows": [
                [note.row, note.reason, note.message, note.needed_length] for note in table.bad_rows
            ],
        }
        for split, table in tables.items()
    ]
    metadata = {"facts": json.dumps(facts), "checksum": str(_checksum(tensors))}
    # Not by the process's number: other machines may share the folder.
    partial = file.with_name(f".{file.name}.{uuid4().hex}")
    try:
        save_file(tensors, partial, metadata=metadata)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def read_tables(file: Path) -> dict[str, TokenTable] | None:
    """The tables of all splits; None where there is no such file, or a damaged one."""
    try:
        with safe_open(file, framework="numpy") as opened:
            metadata = opened.metadata()
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        if _checksum(tensors) != int(metadata["checksum"]):
            raise ValueError("its checksum is wrong")
        return {
            facts["split"]: TokenTable(
                **{name: tensors[f"{facts['split']}/{name}"] for name in ARRAYS},
                num_truncated=facts["num_truncated"],
                num_cut=facts["num_cut"],
                num_cut_answers=facts["num_cut_answers"],
                bad_rows=tuple(BadRowNote(*note) for note in facts["bad_rows"]),
            )
            for facts in json.loads(metadata["facts"])
        }
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        log.warning("the token cache %s is damaged (%s); encoding again", file, error)
        return None


def _checksum(tensors: Mapping[str, NDArray[np.generic]]) -> int:
    total = 0
    for name in sorted(tensors):
        total = zlib.crc32(name.encode(), total)
        total = zlib.crc32(tensors[name].data, total)
    return total
