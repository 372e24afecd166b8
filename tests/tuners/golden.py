"""The recorded P-Tuning v2 cases: models, published prefix checkpoints, what is expected."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from glm_experiments.models import load_model
from tests.shared_data import SHARED

FAMILIES = ("chatglm", "chatglm2", "chatglm3")
CASES = ("prefix", "prefix_proj")
NUM_VIRTUAL_TOKENS = 4


def load_base(family: str, *, attn_implementation: str = "sdpa") -> Any:
    return load_model(
        SHARED / "golden" / family, dtype=torch.float32, attn_implementation=attn_implementation
    )


def load_case(family: str, case: str) -> dict[str, torch.Tensor]:
    cases = load_file(SHARED / "golden" / family / "cases.safetensors")
    return {
        name.removeprefix(f"{case}."): tensor
        for name, tensor in cases.items()
        if name.startswith(f"{case}.")
    }


def write_published(folder: Path, *, family: str, case: str) -> Path:
    """A checkpoint as THUDM's ptuning scripts save it."""
    source = SHARED / "golden" / family
    settings = json.loads((source / "config.json").read_text())
    settings |= {"pre_seq_len": NUM_VIRTUAL_TOKENS, "prefix_projection": case == "prefix_proj"}
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings))
    weights = {
        name.removeprefix("weight."): tensor
        for name, tensor in load_case(family, case).items()
        if name.startswith("weight.")
    }
    torch.save(weights, folder / "pytorch_model.bin")
    shutil.copy(source / "config.json", folder / "base_config.json")
    return folder
