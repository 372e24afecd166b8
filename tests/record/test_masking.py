"""What the record hides, and what only looks like a secret."""

from __future__ import annotations

import pytest

from glm_experiments.record.masking import mask_override, mask_secrets


@pytest.mark.parametrize(
    ("override", "masked"),
    [
        ("training.extra.hub_token=hf_abc", "training.extra.hub_token=***"),
        ("+api_key=abc", "+api_key=***"),
        ("db.Password=a=b", "db.Password=***"),
        ("training.extra={hub_token: hf_abc, seed: 1}", "training.extra={hub_token: ***, seed: 1}"),
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
