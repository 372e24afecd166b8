"""A fresh Python with plain transformers on every kind of export: equal ids, equal answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from glm_experiments.models import load_model, load_tokenizer
from tests.outside.exports import (
    CHATS,
    CODE,
    NUM_NEW_TOKENS,
    VERSIONS,
    export,
    load_kind,
    read_in_fresh_python,
    run_python,
)

pytestmark = pytest.mark.slow
SAVE = """
import json, sys
from transformers import AutoModelForCausalLM, AutoTokenizer
pairs, options = json.loads(sys.argv[1])
for (one, two), each in zip(pairs, options):
    AutoTokenizer.from_pretrained(one, **each).save_pretrained(two)
    AutoModelForCausalLM.from_pretrained(one, **each).save_pretrained(two)
"""
LOAD = "import sys; from transformers import AutoTokenizer as T; T.from_pretrained(sys.argv[1])"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An export of every kind."""
    parent = tmp_path_factory.mktemp("exports")
    return {kind: export(kind, parent / kind) for kind in VERSIONS}


@pytest.fixture(scope="module", params=[(), ("glm_experiments",)], ids=["alone", "after-import"])
def found(request: pytest.FixtureRequest, folders: dict[str, Path]) -> dict[str, Any]:
    """What one process makes of all of them."""
    pairs = [
        (folder, CODE if VERSIONS[kind] == "1" and not request.param else {})
        for kind, folder in folders.items()
    ]
    read = read_in_fresh_python(pairs, first=request.param)
    assert all(each["known"] == bool(request.param) for each in read)
    return dict(zip(folders, read, strict=True))


def expected_of(kind: str) -> dict[str, Any]:
    """What our own tokenizer and model say to the chats."""
    model, tokenizer = load_kind(kind)
    ids = [
        tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
        for chat in CHATS
    ]
    answers = []
    for each in ids:
        inputs = torch.tensor([each])
        with torch.no_grad():
            output = model.generate(
                inputs,
                attention_mask=torch.ones_like(inputs),
                max_new_tokens=NUM_NEW_TOKENS,
                do_sample=False,
            )
        answers.append(output[0, len(each) :].tolist())
    return {"ids": ids, "again": ids, "answers": answers}


@pytest.mark.parametrize("kind", VERSIONS)
def test_it_answers_as_ours(kind: str, found: dict[str, Any]) -> None:
    for name, value in expected_of(kind).items():
        assert found[kind][name] == value, name
    # What stands before or behind a text, by default.
    tokenizer = load_kind(kind)[1]
    assert found[kind]["plain"] == [tokenizer.encode(chat[-1]["content"]) for chat in CHATS]
    if kind.startswith("tiny"):
        assert "模型" in found[kind]["texts"][0]


@pytest.mark.parametrize("kind", VERSIONS)
def test_our_own_loader_reads_it_exactly(kind: str, folders: dict[str, Path]) -> None:
    model, tokenizer = load_kind(kind)
    again, read = load_model(folders[kind]), load_tokenizer(folders[kind])
    assert type(again) is type(model)
    assert again.config.to_dict().keys() == model.config.to_dict().keys()
    state, expected = again.state_dict(), model.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], value) for name, value in expected.items())
    for chat in CHATS:
        assert read.apply_chat_template(chat) == tokenizer.apply_chat_template(chat)
        text = chat[-1]["content"] + "[gMASK]sop<|user|><eop>"
        options = {"split_special_tokens": True}
        assert read.encode(text, **options) == tokenizer.encode(text, **options)


def test_saved_again_in_plain_transformers_it_still_answers(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """As a training with other software leaves it."""
    kinds = ("tiny_chatglm", "chatglm3")
    options = [CODE if VERSIONS[kind] == "1" else {} for kind in kinds]
    again = [tmp_path / kind for kind in kinds]
    pairs = [(str(folders[kind]), str(tmp_path / kind)) for kind in kinds]
    done = run_python(SAVE, json.dumps([pairs, options]), knows_package=False)
    assert done.returncode == 0, done.stderr[-3000:]
    read = read_in_fresh_python(list(zip(again, options, strict=True)))
    for kind, folder, found in zip(kinds, again, read, strict=True):
        for name, value in expected_of(kind).items():
            assert found[name] == value, (kind, name)
        ids = [
            each.encode("people [gMASK]sop", split_special_tokens=True)
            for each in (load_kind(kind)[1], load_tokenizer(folder))
        ]
        assert ids[0] == ids[1]
        assert type(load_model(folder)) is type(load_kind(kind)[0])


def test_version_1_says_what_to_type(folders: dict[str, Path]) -> None:
    folder = folders["chatglm"]
    done = run_python(LOAD, str(folder), knows_package=False)
    assert done.returncode != 0
    assert "Please pass the argument `trust_remote_code=True`" in done.stderr
    for name in ("modeling_chatglm.py", "tokenization_chatglm.py", "configuration_chatglm.py"):
        head = (folder / name).read_text(encoding="utf-8")[:400]
        assert "trust_remote_code=True), or `import glm_experiments` before" in head


def test_version_1_has_the_published_keys(tmp_path: Path) -> None:
    folder = export("tiny_chatglm", tmp_path / "export")
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for old, new in {
        "num_layers": "num_hidden_layers",
        "inner_hidden_size": "intermediate_size",
        "layernorm_epsilon": "layer_norm_eps",
        "max_sequence_length": "max_position_embeddings",
    }.items():
        assert settings[old] == settings[new]
    assert settings["position_encoding_2d"] is True
    settings["num_layers"] = 5
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(ValueError, match="num_layers=5 and num_hidden_layers=6, which are one"):
        load_model(folder)
