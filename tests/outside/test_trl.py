"""TRL trains exports of ours for five steps, and what it saves is ours to go on from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from glm_experiments.models import load_model, load_tokenizer
from tests.outside.exports import CODE, VERSIONS, export, load_kind, run_python

pytestmark = pytest.mark.slow
TRAIN = """
import json, sys
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer
folder, target, options = json.loads(sys.argv[1])
rows = [
    {"messages": [
        {"role": "user", "content": "Who are you? people <|user|>"},
        {"role": "assistant", "content": f"I am number {number}."},
    ]}
    for number in range(16)
]
trainer = SFTTrainer(
    model=AutoModelForCausalLM.from_pretrained(folder, dtype="float32", **options),
    processing_class=AutoTokenizer.from_pretrained(folder, **options),
    train_dataset=Dataset.from_list(rows),
    args=SFTConfig(
        output_dir=target, max_steps=5, per_device_train_batch_size=4, learning_rate=1e-3,
        logging_steps=1, save_strategy="no", report_to="none", use_cpu=True, bf16=False,
    ),
)
trainer.train()
trainer.save_model(target)
losses = [each["loss"] for each in trainer.state.log_history if "loss" in each]
ids = trainer.train_dataset[0]["input_ids"]
print("FOUND" + json.dumps([losses, ids]))
"""


@pytest.mark.parametrize("kind", ["tiny_glm", "tiny_chatglm"])
def test_five_steps_of_supervised_training(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="needs trl: pip install trl")
    folder, target = export(kind, tmp_path / "export"), tmp_path / "trained"
    options = CODE if VERSIONS[kind] == "1" else {}
    done = run_python(TRAIN, json.dumps([str(folder), str(target), options]), knows_package=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("FOUND")]
    losses, ids = json.loads(line.removeprefix("FOUND"))
    assert len(losses) == 5
    assert losses[-1] < losses[0] / 2
    before, tokenizer = load_kind(kind)
    special = [tokenizer.convert_ids_to_tokens(index) for index in ids]
    assert special.count("[gMASK]") == 1
    assert {"<sop>", "sop"} & set(special)
    trained, read = load_model(target), load_tokenizer(target)
    assert type(trained) is type(before)
    assert not torch.equal(trained.lm_head.weight, before.lm_head.weight)
    text = "people [gMASK]sop"
    ours = tokenizer.encode(text, split_special_tokens=True)
    assert read.encode(text, split_special_tokens=True) == ours
