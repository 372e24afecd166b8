"""Where a model's files lie: a local folder, a model that ships with the package, or the hub.

Decides only the folder; what the files in it mean is for the readers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

SHIPPED = Path(__file__).parents[1] / "shipped"
PACKAGE_PREFIX = "package:"
ANSWER_TIMEOUT_SECONDS = 10.0


def find_model_folder(
    path: str | Path, *, revision: str | None = None, patterns: Sequence[Sequence[str]]
) -> Path:
    """Return the local folder with a model's files, fetching them from the hub where needed.

    `patterns` are groups of file patterns; for a hub id the groups are fetched in turn until the
    first pattern of one matches a file, so that weights stored in two formats are fetched once.
    `revision` counts for hub ids only.

    Raises:
        ValueError: no such folder, shipped model, hub id or revision.
        RuntimeError: the hub is out of reach and the files are not in its cache.
    """
    text = str(path)
    if text.startswith(PACKAGE_PREFIX):
        return _shipped_folder(text.removeprefix(PACKAGE_PREFIX))
    folder = Path(text).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ValueError(f"model.path={text} is a file; give the folder that holds config.json")
    if text.startswith(("/", ".", "~")) or text.count("/") != 1:
        raise ValueError(
            f"model.path={text}: there is no such folder; give an existing folder, a hub id such "
            f"as THUDM/chatglm3-6b, or {PACKAGE_PREFIX}NAME for a model that ships with the package"
        )
    return _fetch(text, revision=revision, patterns=patterns)


def name_for_others(path: str | Path) -> str:
    """A model's path as other software finds it: a folder's in full, a hub id as it is."""
    text = str(path)
    if text.startswith(PACKAGE_PREFIX):
        return str(_shipped_folder(text.removeprefix(PACKAGE_PREFIX)))
    folder = Path(text).expanduser()
    return str(folder.resolve()) if folder.is_dir() else text


def find_commit(path: str | Path, *, revision: str | None = None) -> str | None:
    """The commit of a hub's model that `find_model_folder` found; None for what is no hub id."""
    if Path(path).expanduser().exists() or str(path).count("/") != 1:
        return None
    from huggingface_hub import try_to_load_from_cache

    file = try_to_load_from_cache(str(path), "config.json", revision=revision)
    return Path(file).parent.name if isinstance(file, str) else None


def is_shipped(path: str | Path) -> bool:
    """Whether a path names a model that ships with the package."""
    return str(path).startswith(PACKAGE_PREFIX)


def _shipped_folder(name: str) -> Path:
    shipped = (
        sorted(entry.name for entry in SHIPPED.iterdir() if entry.is_dir())
        if SHIPPED.is_dir()
        else []
    )
    if name not in shipped:
        raise ValueError(
            f"model.path={PACKAGE_PREFIX}{name}: no model of that name ships with the package; "
            f"type one of {', '.join(PACKAGE_PREFIX + known for known in shipped) or '(none)'}"
        )
    return SHIPPED / name


def _fetch(hub_id: str, *, revision: str | None, patterns: Sequence[Sequence[str]]) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # Of httpx or of httpx2, as this huggingface_hub uses; its own errors are of it as well.
    http_error: Any = next(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")
    at_revision = f" at revision {revision}" if revision else ""
    unreachable: Exception | None = None
    try:
        # snapshot_download (huggingface_hub 1.33) waits without limit for a server that is silent.
        HfApi().model_info(hub_id, revision=revision, timeout=ANSWER_TIMEOUT_SECONDS)
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise ValueError(
            f"model.path={hub_id}{at_revision}: neither a local folder nor a model on the hub "
            "that can be read; check the name and model.revision, log in with `hf auth login` if "
            "it is private, or give the path of a folder that holds config.json and the weights"
        ) from error
    except (http_error, OfflineModeIsEnabled, OSError) as error:
        unreachable = error
    try:
        for group in patterns:
            folder = Path(
                snapshot_download(
                    hub_id,
                    revision=revision,
                    allow_patterns=list(group),
                    local_files_only=unreachable is not None,
                )
            )
            if next(folder.glob(group[0]), None):
                break
    except (http_error, LocalEntryNotFoundError, OSError) as error:
        reason = unreachable or error
        raise RuntimeError(
            f"model.path={hub_id}{at_revision} is no local folder, is not in the hub's cache, and "
            f"the hub is out of reach ({type(reason).__name__}); fetch it where there is a network "
            f"with `hf download {hub_id}`, or set model.path to a folder that holds its files"
        ) from error
    return folder
