"""A weight file that isn't what the hub or its index says is refused before it is read."""

import hashlib
import json
import logging
import shutil

import pytest

from glm_experiments.models import load_model
from glm_experiments.models.published import checksums
from tests.models.tiny_checkpoints import write_published


@pytest.fixture(autouse=True)
def stamps(tmp_path, monkeypatch):
    monkeypatch.setattr(checksums, "CHECKED", tmp_path / "checked")
    return tmp_path / "checked"


def checksum(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def flip(file):
    """The last weight becomes another number, of the same size."""
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)


def from_hub(folder, cache):
    """The folder as the hub's cache holds it: weights are links to files named by checksums."""
    snapshot = cache / "snapshots" / "0"
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    for file in folder.iterdir():
        blob = cache / "blobs" / checksum(file)
        shutil.copy(file, blob)
        (snapshot / file.name).symlink_to(blob)
    return snapshot


def test_a_flipped_bit_in_the_hubs_cache(tmp_path, stamps, caplog):
    folder = from_hub(write_published(tmp_path / "made", num_shards=2), tmp_path / "cache")
    with caplog.at_level(logging.INFO):
        load_model(folder)
        load_model(folder)
    assert caplog.text.count("against its checksum, once") == 2  # files, not loads
    flip((folder / "model-00002-of-00002.safetensors").resolve())
    with pytest.raises(
        ValueError, match=r"model-00002-of-00002\.safetensors is damaged, or another"
    ):
        load_model(folder)
    assert len(list(stamps.iterdir())) == 2


def test_a_flipped_bit_in_a_downloaded_folder(tmp_path):
    folder = write_published(tmp_path / "made")
    file = folder / "model.safetensors"
    note = folder / ".cache" / "huggingface" / "download" / "model.safetensors.metadata"
    note.parent.mkdir(parents=True)
    note.write_text(f"{'0' * 40}\n{checksum(file)}\n1700000000.0\n")
    load_model(folder)
    flip(file)
    with pytest.raises(ValueError, match=r"SHA-256 begins .*delete that if you changed"):
        load_model(folder)
    note.unlink()
    load_model(folder)


def test_an_indexs_checksum(tmp_path):
    folder = write_published(tmp_path / "made", num_shards=2)
    index = folder / "model.safetensors.index.json"
    settings = json.loads(index.read_text())
    files = sorted(folder.glob("*.safetensors"))
    settings["metadata"]["sha256"] = {file.name: checksum(file) for file in files}
    index.write_text(json.dumps(settings))
    load_model(folder)
    flip(files[0])
    with pytest.raises(ValueError, match=r"metadata\.sha256 of its index"):
        load_model(folder)


def test_a_folder_that_nobody_knows_is_read_as_it_is(tmp_path, stamps):
    load_model(write_published(tmp_path / "made"))
    assert not stamps.exists()
