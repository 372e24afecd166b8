"""Version 1 split over two processes by transformers' own tensor parallelism."""

import subprocess
import sys

import pytest
import torch

from tests.models.architectures.chatglm.tiny_chatglm import build_model, sample

SCRIPT = """
import sys
import torch
import glm_experiments
from transformers import AutoModelForCausalLM
torch.distributed.init_process_group("gloo")
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], tp_plan="auto").train()
output = model(**torch.load(sys.argv[2]))
output.loss.backward()
heads = model.transformer.layers[0].attention.query_key_value
found = {
    "logits": output.logits.detach(),
    "gradient": heads.weight.grad.full_tensor(),
    "rows": torch.tensor(heads.weight.to_local().shape[0]),
}
if torch.distributed.get_rank() == 0:
    torch.save(found, sys.argv[3])
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.parametrize("is_tied", [True, False])
def test_two_processes_agree_with_one(tmp_path, is_tied):
    # 99 tokens, so that the shares of the vocabulary differ.
    model = build_model(vocab_size=99, tie_word_embeddings=is_tied)
    model.save_pretrained(tmp_path / "model")
    ids = torch.tensor([sample(5, 6)])
    torch.save({"input_ids": ids, "labels": ids}, tmp_path / "batch.pt")
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    paths = [str(tmp_path / name) for name in ("model", "batch.pt", "found.pt")]
    run = subprocess.run(
        [sys.executable, *launcher, str(script), *paths],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr
    found = torch.load(tmp_path / "found.pt")
    expected = model(input_ids=ids, labels=ids)
    expected.loss.backward()
    gradient = model.transformer.layers[0].attention.query_key_value.weight.grad
    assert int(found["rows"]) == len(gradient) // 2
    torch.testing.assert_close(found["logits"], expected.logits.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["gradient"], gradient, rtol=1e-4, atol=1e-5)
