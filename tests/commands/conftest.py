"""One short run that all commands work on."""

import pytest

from tests.running import TINY, UNMEASURED


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory, typed_once):
    """A run of LoRA with checkpoints of the steps 2 and 4, whose best is the last."""
    folder = tmp_path_factory.mktemp("commands") / "run"
    done = typed_once.train(
        folder,
        *("training.max_steps=4", "training.save_steps=2", "training.eval_steps=2"),
        *("training.warmup_share=0", "training.learning_rate=1e-3", *UNMEASURED),
        tiny=TINY,
    )
    assert done.code == 0
    return folder
