"""What a training says on a terminal."""

from contextlib import suppress

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from glm_experiments.training.progress import Progress
from tests.terminal import Terminal


@pytest.mark.parametrize("width", [80, 120])
def test_step_loss_speed_and_time_left_on_one_line(tmp_path, width):
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    state, control = TrainerState(max_steps=12_000), TrainerControl()
    values = {}
    progress = Progress(
        count_tokens=lambda: 4096 * state.global_step,
        log_values=lambda _, logged: values.update(logged),
        is_main=True,
    )
    with Terminal(width=width) as terminal:
        with suppress(KeyboardInterrupt), progress:
            progress.on_train_begin(arguments, state, control)
            for _ in range(3):
                state.global_step += 1
                progress.on_step_end(arguments, state, control)
            progress.seconds, progress.tokens = 0.5, 8192
            progress.on_log(arguments, state, control, logs={"loss": 1.25, "learning_rate": 1e-3})
            raise KeyboardInterrupt
        lines = terminal.read()
    assert lines[0].startswith("training ━")
    assert lines[0].endswith("3/12000 steps loss 1.25, 16,384 tokens/s, 49:59 left")
    assert lines[1:] == [""]
    assert values["train/tokens_per_second"] == 16384
