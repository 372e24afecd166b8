"""What `training.extra` may hold: what the library could use, and no other value."""

import pytest
import torch
from accelerate.state import PartialState

from glm_experiments import config
from glm_experiments.composing.loader import build_loader, compose
from glm_experiments.training.arguments import Precision, TrainingPlan, build_arguments, plan_batch
from glm_experiments.training.extra import check_extra


@pytest.fixture(scope="module")
def loader():
    return build_loader()


def compose_training(loader, overrides):
    return config.parse(compose(loader, overrides)).training


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
        ("+training.extra.accelerator_config=/nowhere", "training.extra.accelerator_config=/nowhere"
         ": [Errno 2] No such file or directory: '/nowhere'; leave it out, or type another value"),
        ("+training.extra.accelerator_config={a: 1}", "training.extra.accelerator_config={'a': 1}: "
         "AcceleratorConfig.__init__() got an unexpected keyword argument 'a'; leave it out"),
        ("+training.extra.lr_scheduler_kwargs={last_epoch: 3}", "training.lr_scheduler_type=cosine "
         "can't be used with the arguments {'last_epoch': 3}: \"param 'initial_lr' is not "),
        ("+training.extra.lr_scheduler_kwargs=abc", "training.lr_scheduler_type=cosine can't be "
         "used with the arguments abc: "),
    ],
)  # fmt: skip
def test_what_the_library_could_not_use_is_refused(override, problem, loader):
    training = compose_training(loader, [override, "+training.extra.full_determinism=false"])
    with pytest.raises(ValueError) as caught:  # noqa: PT011 compared below
        check_extra(training)
    assert str(caught.value).startswith(problem)


def test_several_bad_values_come_in_one_report(loader):
    overrides = ["+training.extra.optim=sgdd", "+training.extra.adam_beta=1"]
    with pytest.raises(ValueError) as caught:  # noqa: PT011 compared below
        check_extra(compose_training(loader, overrides))
    assert str(caught.value).splitlines() == [
        "training.extra.optim can't be sgdd; type +training.extra.optim=sgd",
        "training.extra.adam_beta is no argument of transformers.TrainingArguments; type e.g. "
        "+training.extra.adam_beta2=VALUE",
    ]


def test_what_the_library_can_use_passes_and_decides_no_device(loader):
    overrides = [
        *("training.lr_scheduler_type=cosine_with_min_lr", "+training.extra.optim=adafactor"),
        *("+training.extra.lr_scheduler_kwargs={min_lr: 1e-6}", "+training.extra.adam_beta2=0.95"),
        *("+training.extra.optim_target_modules=[a]", "+training.extra.ddp_bucket_cap_mb=null"),
        "+training.extra.include_num_input_tokens_seen=true",
    ]
    before = dict(PartialState._shared_state)
    check_extra(compose_training(loader, overrides))
    assert PartialState._shared_state == before


def test_what_no_field_owns_can_be_set_otherwise(loader, tmp_path):
    training = compose_training(loader, ["+training.extra.logging_first_step=false"])
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
        compose_training(loader, ["+training.extra.greater_is_better=true"])
