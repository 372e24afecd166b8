"""peft finds the base of an adapter that we trained, and both give the model that we load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM

from glm_experiments import runs
from glm_experiments.models import load_model
from glm_experiments.tuners import apply_tuner, load_adapter, save_adapter
from tests.models.tiny_checkpoints import write_published
from tests.outside.exports import run_python
from tests.running import UNMEASURED
from tests.tuners.tiny_models import lora_config

pytestmark = pytest.mark.slow
IDS = [[760, 13, 806, 833, 773]]
ALONE = """
import json, sys
import torch
from peft import AutoPeftModelForCausalLM
folder, ids = json.loads(sys.argv[1])
model = AutoPeftModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
with torch.no_grad():
    print("FOUND" + json.dumps(model(input_ids=torch.tensor(ids)).logits.tolist()))
"""


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.tensor(IDS)).logits
    return found


def train(typed: Any, folder: Path, model: str) -> torch.Tensor:
    """A short run; returns the logits of what it trained."""
    short = ("training.max_steps=3", "training.warmup_share=0", "training.learning_rate=1e-2")
    assert typed.train(folder, f"model={model}", *short, *UNMEASURED).code == 0
    run = runs.load_run(folder, config=runs.read_config(folder, []), checkpoint="last")
    return logits(run.model.float())


def test_a_later_versions_adapter_is_read_by_peft_alone(typed: Any, tmp_path: Path) -> None:
    expected = train(typed, tmp_path / "run", "tiny_glm")
    arguments = json.dumps([str(tmp_path / "run" / "adapter"), IDS])
    done = run_python(ALONE, arguments, knows_package=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("FOUND")]
    found = torch.tensor(json.loads(line.removeprefix("FOUND")))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    base = load_model("package:tiny_glm", dtype=torch.float32)
    assert (logits(base) - expected).abs().max() > 1e-2


def test_version_1s_adapter_is_read_once_the_package_is_imported(
    typed: Any, tmp_path: Path
) -> None:
    expected = train(typed, tmp_path / "run", "tiny_chatglm")
    model = AutoPeftModelForCausalLM.from_pretrained(
        tmp_path / "run" / "adapter", dtype=torch.float32
    )
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-4)


def test_a_published_base_is_found_once_the_package_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its folder, from wherever peft is called."""
    monkeypatch.chdir(tmp_path)
    write_published(tmp_path / "chatglm2-6b", padded_vocab_size=1024)
    model = apply_tuner(load_model("chatglm2-6b"), lora_config())
    with torch.no_grad():
        for name, each in model.named_parameters():
            if "lora_B" in name:
                each.normal_()
    save_adapter(model, tmp_path / "adapter", prompt_format="chatglm2", base="chatglm2-6b")
    monkeypatch.chdir("/")
    found = logits(AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter"))
    torch.testing.assert_close(found, logits(model.eval()), rtol=0, atol=1e-5)
    again = load_adapter(load_model(tmp_path / "chatglm2-6b"), tmp_path / "adapter")
    torch.testing.assert_close(logits(again), found, rtol=0, atol=1e-5)
