"""Where rows come from: what a path setting means, and the rows of a hub dataset."""

import glob
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glm_experiments.config import FilesConfig
from glm_experiments.data.reading import SUFFIXES
from glm_experiments.data.rows import Row

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


@dataclass(frozen=True, slots=True)
class HubDataset:
    """A data set of the hub, one of its splits."""

    path: str
    subset: str | None
    split: str
    revision: str | None

    def __str__(self) -> str:
        return f"{self.path}:{self.split}"


def find_sources(
    paths: Any, *, key: str, split: str, config: FilesConfig
) -> list[Path | HubDataset]:
    """The files and hub datasets that `paths`, the setting data.`key`, means; each once.

    Raises:
        ValueError: naming the setting: nothing there, a folder, or a kind of file that isn't known.
    """
    found: dict[Path | HubDataset, None] = {}
    for path in paths if isinstance(paths, list) else [paths]:
        files = find_files(path, key=key)
        found |= dict.fromkeys(files)
        if not files:
            found[HubDataset(path, config.subset, split, config.revision)] = None
    return list(found)


def find_files(path: str, *, key: str) -> list[Path]:
    """Files that `path`, a file's name or a glob, means; none where it may be a hub id.

    Raises:
        ValueError: naming `key`: nothing there, a folder, or a kind of file that isn't known.
    """
    typed = Path(path).expanduser()
    if typed.is_dir():
        raise ValueError(
            f"data.{key}={path} is a folder; type the files in it, e.g. 'data.{key}={path}/*.jsonl'"
        )
    files = [typed]
    if not typed.exists():
        found = sorted(glob.glob(str(typed), recursive=True))  # noqa: PTH207 Path has no absolute glob
        files = [Path(name) for name in found if not Path(name).is_dir()]
        if not files and HUB_ID.fullmatch(path) and typed.suffix.lower() not in SUFFIXES:
            return []
        if not files:
            raise ValueError(
                f"data.{key}={path}: there is no such file (looked in {Path.cwd()}); type the name "
                "of a file, a glob, or a hub dataset's id (owner/name)"
            )
    for file in files:
        if file.suffix.lower() not in SUFFIXES:
            raise ValueError(
                f"data.{key}: {file} is of no known kind; its name must end with one of "
                f"{', '.join(SUFFIXES)}"
            )
    return files


def read_hub_dataset(dataset: HubDataset) -> Iterator[Row]:
    """Rows of a hub dataset's split; a row's line is its number, from 1.

    Raises:
        ValueError: it isn't there or can't be had.
    """
    import datasets

    try:
        rows = datasets.load_dataset(
            dataset.path, name=dataset.subset, split=dataset.split, revision=dataset.revision
        )
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(
            f"{dataset.path} is no file here, and as a hub dataset (data.subset={dataset.subset}, "
            f"split {dataset.split}, data.revision={dataset.revision}) it can't be loaded: "
            f"{error}; type the name of a file, or look at the id, the split and the network"
        ) from error
    if not len(rows):
        raise ValueError(f"{dataset} is empty; give a split with rows")
    for number, columns in enumerate(rows, start=1):
        yield Row(str(dataset), number, columns)
