"""What the record hides, and what only looks like a secret."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from glm_experiments.record.masking import (
    Secrets,
    find_secrets,
    hide_in_log,
    mask_override,
    mask_secrets,
)


@pytest.mark.parametrize(
    ("override", "masked"),
    [
        ("training.extra.hub_token=hf_abc", "training.extra.hub_token=***"),
        ("+api_key=abc", "+api_key=***"),
        ("db.Password=a=b", "db.Password=***"),
        ("training.extra={hub_token: hf_abc, seed: 1}", "training.extra={hub_token: ***, seed: 1}"),
        ("+training.extra.hub_token=${oc.env:HF_TOKEN}",) * 2,
        ("training.extra={hub_token: ${oc.env:A}, a: 1}",) * 2,
        (
            "hydra.job.env_set.AWS_SECRET_ACCESS_KEY=abc",
            "hydra.job.env_set.AWS_SECRET_ACCESS_KEY=***",
        ),
        ("tuner.num_virtual_tokens=8", "tuner.num_virtual_tokens=8"),
        ("evaluation.max_new_tokens=16", "evaluation.max_new_tokens=16"),
        ("model.geometry={pad_token_id: 3}", "model.geometry={pad_token_id: 3}"),
    ],
)
def test_secrets_in_overrides_are_masked(override: str, masked: str) -> None:
    assert mask_override(override) == masked


def test_secrets_in_the_config_are_masked() -> None:
    config = {"training": {"extra": {"hub_token": "hf_abc"}}, "tuner": {"num_virtual_tokens": 8}}
    assert mask_secrets(config) == {
        "training": {"extra": {"hub_token": "***"}},
        "tuner": {"num_virtual_tokens": 8},
    }
    assert mask_secrets({"token": None}) == {"token": None}


def test_values_of_secrets_are_found_and_hidden_in_texts() -> None:
    config = {
        "extra": {"hub_token": "hf_abcdef", "api_key": {"a": ["sk_12", "sk_123"]}, "hub_id": "me"},
        "env": [{"PASSWORD": 12345678}, {"token": "${oc.env:A}"}, {"token": True}],
    }
    assert set(find_secrets(config)) == {"hf_abcdef", "sk_123", "12345678"}
    secrets = Secrets(["hf_abc", "hf_abcdef"])
    assert secrets.hide("hf_abcdef, hf_abc and hf_ab") == "***, *** and hf_ab"
    nested = {"a": ["hf_abc", 1], "b": None}
    assert secrets.hide_all(nested) == {"a": ["***", 1], "b": None}
    assert Secrets([]).hide("as it is") == "as it is"


def test_a_log_is_written_without_secrets(tmp_path: Path, capsys: Any) -> None:
    root, handler = logging.getLogger(), logging.FileHandler(tmp_path / "log")
    root.addHandler(handler)
    try:
        hide_in_log(Secrets(["hf_abcdef"]))
        for text, value in (("%s of it", "hf_abcdef"), ("hf_abcdef: %d", "no number")):
            handler.handle(logging.LogRecord("a", 40, __file__, 1, text, (value,), None))
    finally:
        root.removeHandler(handler)
        handler.close()
    assert (tmp_path / "log").read_text() == "*** of it\n"
    assert "Logging error" in capsys.readouterr().err  # told by the library, and no crash
