"""float16 on a GPU: a scaled loss, and autocast where the model's own weights train."""

import math

import pytest
import torch

from tests.running import read_losses, read_record

pytestmark = pytest.mark.gpu

COMMON = (
    *("model=tiny_glm", "data=identity", "data.num_train_rows=64", "data.num_validation_rows=8"),
    *("training.max_steps=8", "training.batch_size=8", "training.micro_batch_size=4"),
    *("training.learning_rate=1e-3", "training.warmup_share=0", "training.logging_steps=1"),
    *("training.eval_steps=4", "evaluation.before=false", "evaluation.num_rows=2"),
    *("evaluation.max_new_tokens=8", "tracking=disabled"),
)


@pytest.mark.parametrize("tuner", ["full", "freeze", "lora", "p_tuning_v2"])
def test_it_trains_as_float32_does_to_rounding(tuner, typed, tmp_path):
    own = {
        "lora": ["tuner.lora_dropout=0"],
        "p_tuning_v2": ["tuner.prefix_dropout=0", "training.learning_rate=1e-2"],  # slow to begin
    }
    run = [f"tuner={tuner}", *COMMON, *own.get(tuner, [])]
    losses, after = {}, {}
    for dtype in ("float32", "float16"):
        done = typed.train(tmp_path / dtype, *run, f"model.dtype={dtype}", tiny=())
        assert done.code == 0, done.err
        losses[dtype] = list(read_losses(tmp_path / dtype).values())
        after[dtype] = read_record(tmp_path / dtype)["outcome"]["objective"]["value"]
    assert len(losses["float16"]) == 8
    # The first step's scale is too large and is halved, so the curves are a step or two apart.
    assert losses["float16"][0] == pytest.approx(losses["float32"][0], rel=1e-2)
    assert losses["float16"][0] != losses["float32"][0]
    assert losses["float16"][-1] < losses["float16"][0]
    assert all(math.isfinite(value) for value in after.values())


@pytest.mark.parametrize("tuner", ["full", "freeze"])
def test_it_computes_in_float16_where_float32_weights_train(tuner, typed, tmp_path, monkeypatch):
    seen = set()
    linear = torch.nn.functional.linear

    def watch(*args, **kwargs):
        output = linear(*args, **kwargs)
        if torch.is_grad_enabled():
            seen.add(output.dtype)
        return output

    monkeypatch.setattr(torch.nn.functional, "linear", watch)
    run = (f"tuner={tuner}", *COMMON, "model.dtype=float16", "evaluation.after=false")
    done = typed.train(tmp_path, *run, tiny=())
    assert done.code == 0, done.err
    assert seen == {torch.float16}
