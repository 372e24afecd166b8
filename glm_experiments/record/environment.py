"""What a run ran on: the checkout, the versions, the devices.

Imports no torch: what it says of torch it reads where a run has imported it.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGE_DIR = Path(__file__).resolve().parents[1]
RECORDED_PACKAGES = (
    PACKAGE_DIR.name,
    *("torch", "transformers", "peft", "accelerate", "tokenizers", "sentencepiece", "datasets"),
    *("safetensors", "numpy", "hydra-core", "omegaconf", "wandb"),
)


def read_git_state() -> dict[str, Any] | None:
    """Commit and dirty flag of the checkout that this package runs from; None outside of one."""
    top = PACKAGE_DIR.parent
    # A hook's GIT_DIR would mean its own repository.
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}

    def git(*arguments: str) -> str:
        command = ["git", "--no-optional-locks", "-C", str(top), *arguments]
        return subprocess.run(
            command, env=env, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != top:
            return None  # a virtual environment inside someone else's repository
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def capture_environment() -> dict[str, Any]:
    """Versions and devices; no values of environment variables, for they may be secrets."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    host = {"platform": platform.platform(), "num_cpus": os.cpu_count()}
    return {"versions": versions, "host": host, "devices": describe_devices()}


def describe_devices() -> list[dict[str, Any]]:
    """Name and memory of each visible GPU; empty where torch was not imported or sees none."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    try:
        found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    except RuntimeError as error:  # the driver itself may be what ended the run
        return [{"name": None, "error": str(error)}]
    return [{"name": each.name, "memory_bytes": each.total_memory} for each in found]
