"""Paths, shipped models and hub ids: found, or refused by name within a bounded time."""

import os
import socket
import subprocess
import sys
import textwrap
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import pytest

from glm_experiments.models import load_model
from glm_experiments.models.published import locations
from glm_experiments.models.published.locations import find_commit, find_model_folder
from tests.models.tiny_checkpoints import write_published
from tests.waiting import HANG_SECONDS

PATTERNS = (("*.safetensors", "*.json"), ("*.bin", "*.json"))
HUB_ID = "THUDM/chatglm3-6b"


def find(path, **options):
    return find_model_folder(path, patterns=PATTERNS, **options)


def find_at(endpoint: str) -> str:
    """What a process of its own says of a hub id at an endpoint, unless it waits in vain."""
    script = f"""
        from glm_experiments.models.published import locations
        locations.ANSWER_TIMEOUT_SECONDS = 1.0
        try:
            locations.find_model_folder({HUB_ID!r}, revision="v1", patterns={PATTERNS!r})
        except (ValueError, RuntimeError) as error:
            print(type(error).__name__, error)
    """
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": endpoint}
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=True,
    )
    return found.stdout.strip()


def test_folders_and_shipped_models(tmp_path, monkeypatch):
    assert find(tmp_path) == tmp_path
    monkeypatch.setattr(locations, "SHIPPED", tmp_path)
    (tmp_path / "tiny").mkdir()
    assert find("package:tiny") == tmp_path / "tiny"
    with pytest.raises(ValueError, match=r"no model of that name ships.*type one of package:tiny"):
        find("package:huge")


def test_what_is_no_folder_and_no_hub_id(tmp_path):
    file = tmp_path / "config.json"
    file.write_text("{}")
    with pytest.raises(ValueError, match=r"is a file; give the folder that holds config\.json"):
        find(file)
    for path in (str(tmp_path / "absent"), "./absent/model", "absent", "a/b/c"):
        with pytest.raises(ValueError, match=f"model.path={path}: there is no such folder"):
            find(path)


def test_the_commit_of_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    for commit, ref in (("c0ffee", "main"), ("beef", "v1")):
        folder = tmp_path / "models--THUDM--chatglm3-6b" / "snapshots" / commit
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        refs = folder.parents[1] / "refs"
        refs.mkdir(exist_ok=True)
        (refs / ref).write_text(commit)
    assert find_commit(HUB_ID) == "c0ffee"
    assert find_commit(HUB_ID, revision="v1") == "beef"
    assert find_commit(HUB_ID, revision="c0ffee") == "c0ffee"
    assert find_commit(HUB_ID, revision="v2") is None
    assert find_commit("THUDM/chatglm-6b") is None
    assert find_commit(tmp_path) is None
    assert find_commit("package:tiny_glm") is None


def test_offline_nobody_is_asked(asked_network):
    with pytest.raises(RuntimeError, match=rf"{HUB_ID} at revision v1 .*out of reach.*hf download"):
        load_model(HUB_ID, revision="v1")
    assert asked_network == []


def test_a_hub_id_is_not_mistaken_where_the_name_is_impossible():
    with pytest.raises((ValueError, RuntimeError), match=r"model\.path=THUDM/chat glm"):
        find("THUDM/chat glm")


@pytest.mark.slow
def test_a_silent_hub_is_given_up():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        message = find_at(f"http://127.0.0.1:{server.getsockname()[1]}")
    assert message.startswith(f"RuntimeError model.path={HUB_ID} at revision v1")
    assert "the hub is out of reach (ReadTimeout)" in message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error_code", "expected"),
    [
        ("", "RuntimeError"),
        ("RepoNotFound", "ValueError"),
        ("RevisionNotFound", "ValueError"),
    ],
)
def test_what_the_hub_answers_is_told_apart(error_code, expected):
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(404 if error_code else 503)
            if error_code:
                self.send_header("X-Error-Code", error_code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        message = find_at(f"http://127.0.0.1:{server.server_address[1]}")
        server.shutdown()
    assert message.startswith(f"{expected} model.path={HUB_ID} at revision v1")


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_a_cached_revision_loads_offline(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    cached = tmp_path / "models--THUDM--chatglm3-6b"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "v1").write_text("0" * 40)
    write_published(cached / "snapshots" / ("0" * 40), suffix=suffix)
    model = load_model(HUB_ID, revision="v1")
    assert model.name_or_path == HUB_ID
    with pytest.raises(RuntimeError, match=f"{HUB_ID} at revision v2 .*not in the hub's cache"):
        load_model(HUB_ID, revision="v2")
