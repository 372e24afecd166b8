"""Rows of a hub dataset, as `datasets` keeps them from an earlier download: no network."""

import json
import os
import shutil
from pathlib import Path

import pytest

from glm_experiments.data.sources import HubDataset, find_sources, read_hub_dataset
from glm_experiments.data.splits import load_splits
from tests.data.configs import files_config

os.environ.setdefault("HF_HUB_OFFLINE", "1")
ROWS = [{"question": f"q{n}", "answer": f"a{n}"} for n in range(6)]


@pytest.fixture(scope="module")
def hub_dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """`owner/talks` with the splits train (6 rows, the third without an answer) and validation."""
    datasets = pytest.importorskip("datasets")
    folder = tmp_path_factory.mktemp("hub")
    rows = [row | ({"answer": None} if number == 2 else {}) for number, row in enumerate(ROWS)]
    files = {"train": rows, "validation": ROWS[:2]}
    for split, content in files.items():
        text = "".join(json.dumps(row) + "\n" for row in content)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    datasets.load_dataset(
        "json",
        data_files={split: str(folder / f"{split}.jsonl") for split in files},
        cache_dir=str(folder / "cache"),
    )
    [built] = (folder / "cache" / "json").glob("*/*/*/dataset_info.json")
    kept = folder / "cache" / "owner___talks" / "default" / "0.0.0" / "abc"
    shutil.move(built.parent, kept)
    for file in kept.glob("json-*"):
        file.rename(file.with_name(file.name.replace("json-", "talks-")))
    info = json.loads((kept / "dataset_info.json").read_text())
    info |= {"dataset_name": "talks", "config_name": "default"}
    (kept / "dataset_info.json").write_text(json.dumps(info))
    return str(folder / "cache")


def use_cache(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def test_rows_of_a_hub_dataset(
    hub_dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_cache(monkeypatch, hub_dataset)
    config = files_config("owner/talks", validation_path="owner/talks", max_bad_share=0.5)
    splits = load_splits(config, rejected_file=tmp_path / "rejected.jsonl")
    assert len(splits.train) == 5
    assert len(splits.validation["validation"]) == 2
    assert (splits.train[2].file, splits.train[2].line) == ("owner/talks:train", 4)
    rejected = json.loads((tmp_path / "rejected.jsonl").read_text(encoding="utf-8"))
    assert rejected == {
        "file": "owner/talks:train",
        "line": 3,
        "reason": "null answer: 'answer' is null",
    }


def test_a_split_that_is_not_there(hub_dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_cache(monkeypatch, hub_dataset)
    with pytest.raises(ValueError, match=r"owner/talks .* split test.* can't be loaded"):
        list(read_hub_dataset(HubDataset("owner/talks", None, "test", None)))


def test_a_dataset_that_is_not_there(
    hub_dataset: str, monkeypatch: pytest.MonkeyPatch, asked_network: list[object]
) -> None:
    use_cache(monkeypatch, hub_dataset)
    with pytest.raises(ValueError, match=r"nobody/nothing is no file here, and as a hub dataset"):
        list(read_hub_dataset(HubDataset("nobody/nothing", None, "train", None)))
    assert asked_network == []


def test_what_may_be_a_hub_id() -> None:
    config = files_config("a.json", subset="zh", revision="v1")
    found = find_sources(["owner/na.me-1", "squad"], key="path", split="test", config=config)
    assert found == [
        HubDataset("owner/na.me-1", "zh", "test", "v1"),
        HubDataset("squad", "zh", "test", "v1"),
    ]
    for path in ("a/b/c", "owner/name.json", "~/x", "/x/y"):
        with pytest.raises(ValueError, match="there is no such file"):
            find_sources(path, key="path", split="train", config=config)
