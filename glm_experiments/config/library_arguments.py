"""Which of transformers.TrainingArguments `training.extra` may set: a list of what passes, so that
what a later release adds breaks no run unasked. Knows names only, no values."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches

# A group of names -> why they may pass: none changes which rows a step has, what a checkpoint
# holds or where a run computes, so that a run can be continued and compared.
PASSED_ON: dict[tuple[str, ...], str] = {
    (
        *("optim", "optim_args", "optim_target_modules"),
        *("adam_beta1", "adam_beta2", "adam_epsilon"),
    ): "which optimizer: its state is kept, whatever it is",
    ("lr_scheduler_kwargs",): "of the schedule, which follows from the step alone",
    ("neftune_noise_alpha",): "noise by the random state, which a checkpoint has",
    (
        *("torch_compile", "torch_compile_backend", "torch_compile_mode"),
        *("use_liger_kernel", "liger_kernel_config", "tf32", "full_determinism"),
        *("activation_checkpointing_kwargs", "gradient_checkpointing_kwargs"),
        "torch_empty_cache_steps",
    ): "how the same numbers are computed, to rounding",
    (
        *("dataloader_num_workers", "dataloader_prefetch_factor", "dataloader_pin_memory"),
        *("dataloader_persistent_workers", "dataloader_multiprocessing_context"),
    ): "how rows reach the device, in their order",
    ("ddp_bucket_cap_mb",): "how gradients travel",
    (
        *("logging_first_step", "log_level", "log_level_replica", "log_on_each_node"),
        *("include_num_input_tokens_seen", "skip_memory_metrics", "debug"),
    ): "what is said on the way",
    ("hub_token",): "who one is at the hub, which no number depends on; it is kept nowhere",
    ("eval_delay",): "when the validation loss is first measured",
}
NEAR = 0.75
"""How alike two names are of which one was meant."""

# Set from typed fields or by the pipeline itself: the key to type instead.
OWNED_TRAINING_ARGUMENTS = {
    "output_dir": "hydra.run.dir",
    "per_device_train_batch_size": "training.micro_batch_size",
    "per_device_eval_batch_size": "training.micro_batch_size",
    "auto_find_batch_size": "training.micro_batch_size",
    "gradient_accumulation_steps": "training.batch_size",
    "activation_checkpointing": "training.activation_checkpointing",
    "gradient_checkpointing": "training.activation_checkpointing",
    "warmup_steps": "training.warmup_share",
    "warmup_ratio": "training.warmup_share",
    "eval_strategy": "training.eval_steps",
    "save_strategy": "training.save_steps",
    "logging_strategy": "training.logging_steps",
    "seed": "seed",
    "data_seed": "seed",
    "report_to": "tracking",
    "bf16": "model.dtype",
    "fp16": "model.dtype",
    "fsdp": "parallelism",
    "ddp_find_unused_parameters": "parallelism",
    "run_name": "name",
    "remove_unused_columns": "data",
    "logging_nan_inf_filter": "training",
    "resume_from_checkpoint": "training.resume",
    "metric_for_best_model": "training.early_stopping_patience",
    "greater_is_better": "training.early_stopping_patience",
    "load_best_model_at_end": "training.early_stopping_patience",
    "use_cpu": "parallelism.device",
    "disable_tqdm": "training",
    "average_tokens_across_devices": "training",
}


def passed_on() -> list[str]:
    """The names of all that may pass."""
    return [name for group in PASSED_ON for name in group]


def extra_problems(extra: Iterable[str], *, fields: Collection[str]) -> list[str]:
    """Why keys of `training.extra` may not pass; fields: of the training section itself."""
    problems = []
    for key in extra:
        owner = OWNED_TRAINING_ARGUMENTS.get(key)
        if owner is None and key in fields:
            owner = f"training.{key}"
        if owner is not None:
            problems.append(f"training.extra.{key} repeats {owner}; set {owner} instead")
        elif key not in passed_on():
            near = get_close_matches(key, passed_on(), n=1, cutoff=NEAR)
            meant = "".join(f", or type +training.extra.{each}=VALUE" for each in near)
            problems.append(f"training.extra.{key} has no place in a run here; leave it out{meant}")
    return problems
