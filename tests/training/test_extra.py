"""What `training.extra` may hold: what the library could use, and no other value."""

from dataclasses import fields

import pytest
import torch
from accelerate.state import PartialState
from transformers import TrainingArguments

from glm_experiments import config
from glm_experiments.config.library_arguments import extra_problems
from glm_experiments.training.arguments import Precision, TrainingPlan, build_arguments, plan_batch
from glm_experiments.training.extra import check_extra


def compose_training(composer, overrides):
    return config.parse(composer.compose(overrides)).training


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("+training.extra.adam_beta2=abc", "training.extra.adam_beta2 must be a number, got 'abc'; "
         "type e.g. +training.extra.adam_beta2=0.999"),
        ("+training.extra.adam_beta2=1.5", "training.extra.adam_beta2=1.5: Invalid beta parameter"),
        ("+training.extra.lr_scheduler_kwargs=3", "training.extra.lr_scheduler_kwargs must be a "
         "mapping or text, got 3; type e.g. '+training.extra.lr_scheduler_kwargs={KEY: VALUE}'"),
        ("+training.extra.lr_scheduler_kwargs={foo: 1}", "training.lr_scheduler_type=cosine can't "
         "be used with the arguments {'foo': 1}: "),
        ("training.lr_scheduler_type=cosine_with_min_lr", "training.lr_scheduler_type="
         "cosine_with_min_lr can't be used with the arguments that it has: One of min_lr"),
        ("+training.extra.torch_compile=maybe", "training.extra.torch_compile must be true or "
         "false, got 'maybe'; type e.g. +training.extra.torch_compile=false"),
        ("+training.extra.dataloader_prefetch_factor=2",
         "training.extra.dataloader_prefetch_factor=2: --dataloader_prefetch_factor can only"),
        ("+training.extra.optim_args=3", "training.extra.optim_args must be text, got 3"),
        ("+training.extra.optim_args=abc", "training.extra.optim_args=abc: not enough values to "),
        ("+training.extra.lr_scheduler_kwargs={last_epoch: 3}", "training.lr_scheduler_type=cosine "
         "can't be used with the arguments {'last_epoch': 3}: \"param 'initial_lr' is not "),
        ("+training.extra.lr_scheduler_kwargs=abc", "training.lr_scheduler_type=cosine can't be "
         "used with the arguments abc: "),
    ],
)  # fmt: skip
def test_what_the_library_could_not_use_is_refused(override, problem, composer):
    training = compose_training(composer, [override, "+training.extra.full_determinism=false"])
    with pytest.raises(ValueError) as caught:  # noqa: PT011 compared below
        check_extra(training)
    assert str(caught.value).startswith(problem)


def test_several_bad_values_come_in_one_report(composer):
    overrides = ["+training.extra.optim=sgdd", "+training.extra.adam_beta2=text"]
    with pytest.raises(ValueError) as caught:  # noqa: PT011 compared below
        check_extra(compose_training(composer, overrides))
    assert str(caught.value).splitlines() == [
        "training.extra.optim can't be sgdd; type +training.extra.optim=sgd",
        "training.extra.adam_beta2 must be a number, got 'text'; type e.g. "
        "+training.extra.adam_beta2=0.999",
    ]


def test_what_the_library_can_use_passes_and_decides_no_device(composer):
    overrides = [
        *("training.lr_scheduler_type=cosine_with_min_lr", "+training.extra.optim=adafactor"),
        *("+training.extra.lr_scheduler_kwargs={min_lr: 1e-6}", "+training.extra.adam_beta2=0.95"),
        *("+training.extra.optim_target_modules=[a]", "+training.extra.ddp_bucket_cap_mb=null"),
        "+training.extra.include_num_input_tokens_seen=true",
    ]
    before = dict(PartialState._shared_state)
    check_extra(compose_training(composer, overrides))
    assert PartialState._shared_state == before


def test_what_no_field_owns_can_be_set_otherwise(composer, tmp_path):
    training = compose_training(composer, ["+training.extra.logging_first_step=false"])
    plan = TrainingPlan(
        config=training,
        seed=0,
        device=torch.device("cpu"),
        batch=plan_batch(training, num_processes=1, num_micro_batches=1),
        precision=Precision(autocast=None, scales_loss=False),
    )
    arguments = build_arguments(plan, output_dir=tmp_path)
    assert not arguments.logging_first_step
    with pytest.raises(ValueError, match=r"training\.extra\.greater_is_better"):
        compose_training(composer, ["+training.extra.greater_is_better=true"])


def test_all_that_the_library_knows_has_an_owner_or_a_reason_or_is_refused():
    """What breaks a resume above all; a later release's arguments are refused until looked at."""
    known = {field.name for field in fields(TrainingArguments)}
    later = {"activation_checkpointing_kwargs"}  # of transformers 5.24
    assert set(config.passed_on()) <= known | later
    assert not set(config.passed_on()) & set(config.OWNED_TRAINING_ARGUMENTS)
    refused = known - set(config.passed_on()) - set(config.OWNED_TRAINING_ARGUMENTS)
    refused -= {field.name for field in fields(config.TrainingConfig)}
    assert refused >= {
        *("save_only_model", "ignore_data_skip", "accelerator_config", "dataloader_drop_last"),
        *("restore_callback_states_from_checkpoint", "train_sampling_strategy", "push_to_hub"),
    }
    report = extra_problems(sorted(refused), fields=())
    assert len(report) == len(refused)
    assert all("has no place in a run here; leave it out" in problem for problem in report)


@pytest.mark.parametrize(
    "override",
    [
        *("+training.extra.save_only_model=true", "+training.extra.ignore_data_skip=true"),
        "+training.extra.accelerator_config={split_batches: true}",
    ],
)
def test_what_would_break_a_resume_is_refused_by_name(override, composer):
    key = override.partition("=")[0].removeprefix("+")
    with pytest.raises(config.Impossible, match=f"{key} has no place in a run here; leave it out"):
        compose_training(composer, [override])
