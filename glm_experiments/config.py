"""Schemas of a run: what each conf group may contain, and which combinations make sense.

Imports no torch, so composing, printing and checking a config costs well under a second. Values
live in `conf/`; the dataclasses here give types, units, meaning and rules, and no defaults.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf


class Dtype(StrEnum):
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class TrainableDtype(StrEnum):
    float32 = "float32"
    bfloat16 = "bfloat16"


class Weights(StrEnum):
    pretrained = "pretrained"
    random = "random"


class AttnImplementation(StrEnum):
    eager = "eager"
    sdpa = "sdpa"
    flex_attention = "flex_attention"


class Dequantize(StrEnum):
    torch = "torch"
    cpm_kernels = "cpm_kernels"


class PromptFormat(StrEnum):
    chatglm = "chatglm"
    chatglm2 = "chatglm2"
    chatglm3 = "chatglm3"
    glm4 = "glm4"
    alpaca = "alpaca"


class DataFormat(StrEnum):
    alpaca = "alpaca"
    prompt_response = "prompt_response"
    messages = "messages"
    sharegpt = "sharegpt"
    text = "text"


class OnBadRow(StrEnum):
    skip = "skip"
    error = "error"


class TrainOn(StrEnum):
    every_turn = "every_turn"
    last_turn = "last_turn"


class LrScheduler(StrEnum):
    """Names of transformers' SchedulerType."""

    linear = "linear"
    cosine = "cosine"
    cosine_with_restarts = "cosine_with_restarts"
    polynomial = "polynomial"
    constant = "constant"
    constant_with_warmup = "constant_with_warmup"
    inverse_sqrt = "inverse_sqrt"
    # With arguments of their own, in training.extra.lr_scheduler_kwargs.
    cosine_with_min_lr = "cosine_with_min_lr"
    warmup_stable_decay = "warmup_stable_decay"


class TrackingMode(StrEnum):
    online = "online"
    offline = "offline"


def check(problems: list[str], holds: bool, message: str) -> None:
    """Append `message` to `problems` unless `holds`."""
    if not holds:
        problems.append(message)


def positive(section: str, values: dict[str, float | None]) -> list[str]:
    """One problem for every value that is given and not above zero."""
    return [
        f"{section}.{key} must be positive, got {value}; type e.g. {section}.{key}=1"
        for key, value in values.items()
        if value is not None and not value > 0
    ]


def within(section: str, values: dict[str, float], low: float, high: float) -> list[str]:
    """One problem for every value outside low <= value < high."""
    return [
        f"{section}.{key} must be at least {low} and below {high}, got {value}; "
        f"type e.g. {section}.{key}={low}"
        for key, value in values.items()
        if not low <= value < high
    ]


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    """Which GLM."""

    name: str
    path: str
    """Local folder, hub id, or `package:NAME` for a model that ships with the package."""
    revision: str | None
    """Branch, tag or commit of a hub id; null: its default branch."""
    dtype: Dtype
    """Precision of the frozen weights and of the arithmetic."""
    attn_implementation: AttnImplementation
    dequantize: Dequantize
    """Who turns published int8 and int4 weights into `dtype`."""
    weights: Weights
    """pretrained: from `path`; random: `geometry` with fresh weights, for pretraining."""
    geometry: dict[str, Any]
    """With random weights: fields of the model's own configuration class."""
    vocabulary_size: int | None
    """With random weights: size of the SentencePiece vocabulary built from the training data."""
    attention_modules: list[str]
    """Names of the attention's linear modules, for tuners to target."""
    linear_modules: list[str]
    """Names of every linear module of a layer, for tuners to target."""
    prompt_format: PromptFormat
    """The form in which this model was taught to be asked."""

    def problems(self) -> list[str]:
        problems = positive("model", {"vocabulary_size": self.vocabulary_size})
        random = self.weights is Weights.random
        check(
            problems,
            random == bool(self.geometry),
            "model.geometry describes a model with fresh weights and belongs to "
            "model.weights=random; type model.weights=pretrained model.geometry={} or give both",
        )
        check(
            problems,
            random == (self.vocabulary_size is not None),
            "model.vocabulary_size belongs to model.weights=random (the tokenizer is built from "
            "the training data); type model.vocabulary_size=null, or give both",
        )
        return problems


@dataclass(kw_only=True, slots=True)
class TunerConfig:
    """How the model is tuned: which parameters move."""

    name: str
    dtype: TrainableDtype
    """Precision in which the trained parameters and their optimizer state are kept."""

    def problems(self) -> list[str]:
        return []


@dataclass(kw_only=True, slots=True)
class LoraConfig(TunerConfig):
    """Low-rank adapters beside frozen linears, by peft (arXiv:2106.09685)."""

    r: int
    lora_alpha: float
    lora_dropout: float
    target_modules: list[str]
    """Module names (their last part) that get an adapter."""
    use_rslora: bool
    """Scale by lora_alpha / sqrt(r) instead of lora_alpha / r (arXiv:2312.03732)."""
    use_dora: bool
    """Decompose into magnitude and direction (arXiv:2402.09353)."""

    def problems(self) -> list[str]:
        problems = positive("tuner", {"r": self.r, "lora_alpha": self.lora_alpha})
        problems += within("tuner", {"lora_dropout": self.lora_dropout}, 0, 1)
        check(
            problems,
            bool(self.target_modules),
            "tuner.target_modules is empty, so nothing would train; "
            "type e.g. 'tuner.target_modules=${model.attention_modules}'",
        )
        return problems


@dataclass(kw_only=True, slots=True)
class PTuningV2Config(TunerConfig):
    """Learned key/value pairs before the sequence in every layer (arXiv:2110.07602)."""

    num_virtual_tokens: int
    prefix_projection: bool
    """Reparametrise the prefix by a two-layer tanh MLP while training."""
    prefix_dropout: float

    def problems(self) -> list[str]:
        problems = positive("tuner", {"num_virtual_tokens": self.num_virtual_tokens})
        return problems + within("tuner", {"prefix_dropout": self.prefix_dropout}, 0, 1)


@dataclass(kw_only=True, slots=True)
class FreezeConfig(TunerConfig):
    """Train the last blocks, freeze the rest."""

    num_trainable_layers: int

    def problems(self) -> list[str]:
        return positive("tuner", {"num_trainable_layers": self.num_trainable_layers})


@dataclass(kw_only=True, slots=True)
class FullConfig(TunerConfig):
    """Train every parameter."""


@dataclass(kw_only=True, slots=True)
class ParallelismConfig:
    """Where the run computes."""

    name: str

    def problems(self) -> list[str]:
        return []

    def num_replicas(self) -> int | None:
        """Devices that work on different samples at once; None: decided by what is visible."""
        return 1


@dataclass(kw_only=True, slots=True)
class SingleConfig(ParallelismConfig):
    """One device, however many are visible."""

    device: str | None
    """cpu, cuda:0, ...; null: the first GPU, or the CPU where there is none."""

    def problems(self) -> list[str]:
        return [] if self.device is None else device_problems("parallelism.device", self.device)


@dataclass(kw_only=True, slots=True)
class DataParallelConfig(ParallelismConfig):
    """One process, one replica of the model a device, every micro batch split over them."""

    devices: list[str] | None
    """cpu, cuda:0, ...; repeats allowed; null: all visible GPUs."""

    def problems(self) -> list[str]:
        return devices_problems(self.devices)

    def num_replicas(self) -> int | None:
        return len(self.devices) if self.devices is not None else None


@dataclass(kw_only=True, slots=True)
class DistributedConfig(ParallelismConfig):
    """One process a device, gradients averaged (DistributedDataParallel)."""

    num_devices: int | None
    """null: all visible GPUs; under torchrun the world that it gives."""

    def problems(self) -> list[str]:
        return positive("parallelism", {"num_devices": self.num_devices})

    def num_replicas(self) -> int | None:
        return self.num_devices


@dataclass(kw_only=True, slots=True)
class ShardedConfig(DistributedConfig):
    """One process a device, the weights sharded over them (FSDP2)."""


@dataclass(kw_only=True, slots=True)
class ModelParallelConfig(ParallelismConfig):
    """One process, the layers split over devices, micro batches overlapping."""

    devices: list[str] | None
    """cpu, cuda:0, ...; repeats allowed; null: all visible GPUs."""
    num_micro_batches: int
    """Forward passes in flight before one backward pass."""

    def problems(self) -> list[str]:
        problems = devices_problems(self.devices)
        return problems + positive("parallelism", {"num_micro_batches": self.num_micro_batches})


def devices_problems(devices: list[str] | None) -> list[str]:
    """What is wrong with a list of device names."""
    if devices is None:
        return []
    problems: list[str] = []
    check(problems, bool(devices), "parallelism.devices is empty; type e.g. [cuda:0,cuda:1]")
    for device in devices:
        problems += device_problems("parallelism.devices", device)
    return problems


def device_problems(key: str, device: str) -> list[str]:
    """What is wrong with a device's name."""
    kind, colon, index = device.partition(":")
    if (device == "cpu") or (kind == "cuda" and colon and index.isdecimal()):
        return []
    return [f"{key} has {device!r}, which names no device; type cpu or e.g. cuda:0"]


@dataclass(kw_only=True, slots=True)
class DataConfig:
    """Which samples, in which form."""

    name: str
    prompt_format: PromptFormat
    """One form from training through evaluation to chat."""
    context_length: int
    """Tokens a sample may have, answer included."""
    packing: bool
    """Fill rows of `context_length` tokens with several samples that don't see each other."""
    train_on: TrainOn
    """Which of a conversation's answers carry loss."""
    num_train_rows: int | None
    """At most so many training rows; null: all."""
    num_validation_rows: int
    """Rows that every validation set has; 0: no validation."""
    split_seed: int
    """Seed of the generator or of the split into training and validation."""

    def problems(self) -> list[str]:
        problems = positive(
            "data", {"context_length": self.context_length, "num_train_rows": self.num_train_rows}
        )
        check(
            problems,
            self.num_validation_rows >= 0,
            f"data.num_validation_rows is {self.num_validation_rows}; "
            "type 0 for no validation, or the number of rows to hold out",
        )
        return problems


@dataclass(kw_only=True, slots=True)
class FilesConfig(DataConfig):
    """Rows from files or from a hub dataset."""

    path: Any
    """A file, a glob, a list of them, or a hub dataset's id."""
    validation_path: Any
    """As `path`; null: `num_validation_rows` are split off `path`."""
    revision: str | None
    """Of a hub dataset."""
    subset: str | None
    """Of a hub dataset: its configuration."""
    split: str
    """Of a hub dataset: the split that `path` means."""
    validation_split: str
    """Of a hub dataset: the split that `validation_path` means."""
    format: DataFormat | None
    """null: detected from the columns."""
    prompt_column: str | None
    """Of the form prompt_response; null: detected."""
    response_column: str | None
    history_column: str | None
    on_bad_row: OnBadRow
    """skip: count it, keep it in `rejected.jsonl`; error: stop."""
    max_bad_share: float
    """More bad rows than this share stop the run."""

    def problems(self) -> list[str]:
        problems = DataConfig.problems(self)
        problems += within("data", {"max_bad_share": self.max_bad_share}, 0, math.inf)
        for key, value in {"path": self.path, "validation_path": self.validation_path}.items():
            paths = value if isinstance(value, list) else [value]
            if key == "path" and (value is None or value == []):
                problems.append(
                    "data.path is not given; type data.path=FILE, a glob, "
                    "'data.path=[A,B]' or a hub dataset's id"
                )
            elif value is not None and not all(isinstance(path, str) for path in paths):
                problems.append(
                    f"data.{key} must be a file name or a list of them, got {value!r}; "
                    f"type e.g. data.{key}=train.jsonl"
                )
        return problems


@dataclass(kw_only=True, slots=True)
class GeneralConfig(DataConfig):
    """Bilingual questions with checkable answers, written by a seeded generator."""


@dataclass(kw_only=True, slots=True)
class IdentityConfig(DataConfig):
    """Who are you, who made you: written by a seeded generator."""

    assistant_name: str
    author: str
    replay_share: float
    """Share of the training rows that are general questions, against forgetting."""

    def problems(self) -> list[str]:
        problems = DataConfig.problems(self)
        problems += within("data", {"replay_share": self.replay_share}, 0, 1)
        for key, value in {"assistant_name": self.assistant_name, "author": self.author}.items():
            check(problems, bool(value.strip()), f"data.{key} is blank; type data.{key}=NAME")
        return problems


# Set from typed fields or by the pipeline itself; `training.extra` may not set them again.
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
    "load_best_model_at_end": "training.early_stopping_patience",
    "use_cpu": "parallelism.device",
    "disable_tqdm": "training",
}
# What the run's own loss, checkpoints and parallelism leave no place for.
REFUSED_TRAINING_ARGUMENTS = ("label_smoothing_factor", "push_to_hub", "deepspeed", "fsdp_config")


@dataclass(kw_only=True, slots=True)
class TrainingConfig:
    """How long, how fast, how often saved."""

    learning_rate: float
    lr_scheduler_type: LrScheduler
    warmup_share: float
    """Share of all steps over which the learning rate rises."""
    weight_decay: float
    max_grad_norm: float
    """Gradients are scaled down to this norm; 0: never."""
    max_steps: int | None
    """Optimizer steps; exactly one of this and `num_train_epochs` is given."""
    num_train_epochs: float | None
    batch_size: int
    """Samples (packed rows) per optimizer step over all devices."""
    micro_batch_size: int
    """Samples (packed rows) per device and forward pass."""
    activation_checkpointing: bool
    """Recompute activations in the backward pass instead of keeping them."""
    logging_steps: int
    eval_steps: int | None
    """Steps between evaluations of the validation loss; null: none while training."""
    save_steps: int | None
    """Steps between checkpoints; null: only where the run stops."""
    save_total_limit: int | None
    """Checkpoints kept; null: all."""
    early_stopping_patience: int | None
    """Evaluations without a lower validation loss before the run ends; null: never."""
    resume: str
    """auto: the last complete checkpoint in the run's folder; never; or a checkpoint's folder."""
    extra: dict[str, Any]
    """Further arguments of transformers.TrainingArguments."""

    def problems(self) -> list[str]:
        section = "training"
        problems = positive(
            section,
            {
                "learning_rate": self.learning_rate,
                "batch_size": self.batch_size,
                "micro_batch_size": self.micro_batch_size,
                "max_steps": self.max_steps,
                "num_train_epochs": self.num_train_epochs,
                "logging_steps": self.logging_steps,
                "eval_steps": self.eval_steps,
                "save_steps": self.save_steps,
                "save_total_limit": self.save_total_limit,
                "early_stopping_patience": self.early_stopping_patience,
            },
        )
        problems += within(
            section,
            {"weight_decay": self.weight_decay, "max_grad_norm": self.max_grad_norm},
            0,
            math.inf,
        )
        check(
            problems,
            0 <= self.warmup_share < 1,
            f"training.warmup_share is {self.warmup_share}, so the learning rate would never "
            "arrive; type a share of all steps below 1, e.g. training.warmup_share=0.05",
        )
        check(
            problems,
            (self.max_steps is None) != (self.num_train_epochs is None),
            "exactly one of training.max_steps and training.num_train_epochs is wanted; type e.g. "
            "training.max_steps=100 training.num_train_epochs=null",
        )
        check(
            problems,
            self.early_stopping_patience is None or self.eval_steps is not None,
            "training.early_stopping_patience needs evaluations while training; "
            "type e.g. training.eval_steps=50",
        )
        for key in self.extra:
            owner = OWNED_TRAINING_ARGUMENTS.get(key)
            if owner is None and key in type(self).__dataclass_fields__:
                owner = f"training.{key}"
            check(
                problems,
                owner is None,
                f"training.extra.{key} repeats {owner}; set {owner} instead",
            )
            check(
                problems,
                key not in REFUSED_TRAINING_ARGUMENTS,
                f"training.extra.{key} has no place in a run here; leave it out",
            )
        return problems


@dataclass(kw_only=True, slots=True)
class EvaluationConfig:
    """What is measured by generating answers."""

    before: bool
    """Measure the model before it is tuned, too."""
    after: bool
    batch_size: int
    max_new_tokens: int
    num_rows: int | None
    """Rows of every validation set that are answered; null: all."""
    metrics: list[str]
    """Of exact_match, bleu4, rouge, perplexity."""

    def problems(self) -> list[str]:
        problems = positive(
            "evaluation",
            {
                "batch_size": self.batch_size,
                "max_new_tokens": self.max_new_tokens,
                "num_rows": self.num_rows,
            },
        )
        known = ("exact_match", "bleu4", "rouge", "perplexity")
        for metric in self.metrics:
            check(
                problems,
                metric in known,
                f"evaluation.metrics has {metric!r}; type of {', '.join(known)}",
            )
        check(
            problems,
            bool(self.metrics) or not (self.before or self.after),
            "evaluation.metrics is empty; type e.g. 'evaluation.metrics=[exact_match]', or "
            "evaluation.before=false evaluation.after=false",
        )
        return problems


@dataclass(kw_only=True, slots=True)
class TrackingConfig:
    """Where runs are compared."""

    name: str

    def problems(self) -> list[str]:
        return []


@dataclass(kw_only=True, slots=True)
class WandbConfig(TrackingConfig):
    project: str
    """The study."""
    entity: str | None
    group: str | None
    """null: the sweep's folder name, or none for a single run."""
    tags: list[str]
    """Beside the names of model, tuner, parallelism and data."""
    mode: TrackingMode | None
    """null: WANDB_MODE, else online where a key is set, else offline."""
    log_adapter: bool
    """Upload the adapter as an artifact."""
    init_timeout_seconds: float
    finish_timeout_seconds: float

    def problems(self) -> list[str]:
        return positive(
            "tracking",
            {
                "init_timeout_seconds": self.init_timeout_seconds,
                "finish_timeout_seconds": self.finish_timeout_seconds,
            },
        )


@dataclass(kw_only=True, slots=True)
class TensorboardConfig(TrackingConfig):
    """Event files in the run's folder."""


@dataclass(kw_only=True, slots=True)
class TrackioConfig(TrackingConfig):
    project: str
    group: str | None


@dataclass(kw_only=True, slots=True)
class DisabledConfig(TrackingConfig):
    """Only the run's own record."""


@dataclass(kw_only=True, slots=True)
class Config:
    """One run."""

    name: str
    seed: int
    model: ModelConfig
    tuner: TunerConfig
    parallelism: ParallelismConfig
    data: DataConfig
    training: TrainingConfig
    evaluation: EvaluationConfig
    tracking: TrackingConfig

    def problems(self) -> list[str]:
        sections = (
            self.model,
            self.tuner,
            self.parallelism,
            self.data,
            self.training,
            self.evaluation,
            self.tracking,
        )
        problems: list[str] = []
        check(
            problems,
            0 <= self.seed < 2**32,
            f"seed must be at least 0 and below 2**32, got {self.seed}; type e.g. seed=0",
        )
        check(problems, bool(self.name.strip()), "name is blank; type e.g. name=my_run")
        return [
            *problems,
            *(problem for section in sections for problem in section.problems()),
            *self.batch_problems(),
            *self.validation_problems(),
            *self.random_weights_problems(),
            *self.precision_problems(),
        ]

    def batch_problems(self) -> list[str]:
        """The batch must be a whole number of micro batches on every device."""
        replicas = self.parallelism.num_replicas()
        if replicas is None:
            return []  # known, and checked, when the run is placed
        return batch_problems(self.training, replicas, num_in_flight(self.parallelism))

    def validation_problems(self) -> list[str]:
        """Whatever measures needs held-out rows."""
        has_rows = self.data.num_validation_rows > 0 or (
            isinstance(self.data, FilesConfig) and self.data.validation_path is not None
        )
        wants = {
            "evaluation.before=false": self.evaluation.before,
            "evaluation.after=false": self.evaluation.after,
            "training.eval_steps=null": self.training.eval_steps is not None,
        }
        if has_rows or not any(wants.values()):
            return []
        return [
            "there is nothing to evaluate on: data.num_validation_rows is 0; type e.g. "
            f"data.num_validation_rows=100, or {' '.join(k for k, v in wants.items() if v)}"
        ]

    def random_weights_problems(self) -> list[str]:
        """Adapters beside random weights learn nothing."""
        if self.model.weights is Weights.random and not isinstance(self.tuner, FullConfig):
            return [
                f"tuner={self.tuner.name} would leave the random weights of model.weights=random "
                "as they are; type tuner=full, or model.weights=pretrained"
            ]
        return []

    def precision_problems(self) -> list[str]:
        """What trains is at least as precise as what it is computed with."""
        if self.tuner.dtype is TrainableDtype.float32 or self.model.dtype is Dtype.bfloat16:
            return []
        return [
            f"tuner.dtype={self.tuner.dtype} with model.dtype={self.model.dtype} would lose what "
            "is learned; type tuner.dtype=float32, or model.dtype=bfloat16"
        ]


def num_in_flight(parallelism: ParallelismConfig) -> int:
    """Micro batches that one optimizer step must hold at least."""
    if isinstance(parallelism, ModelParallelConfig):
        return parallelism.num_micro_batches
    return 1


def batch_problems(training: TrainingConfig, num_replicas: int, in_flight: int) -> list[str]:
    """What keeps `batch_size` from being a whole number of accumulation steps."""
    step = training.micro_batch_size * num_replicas * in_flight
    if step <= 0 or training.batch_size % step == 0:
        return []  # the fields' own rules report what is not positive
    factors = f"training.micro_batch_size={training.micro_batch_size}"
    if num_replicas > 1:
        factors += f" x {num_replicas} devices"
    if in_flight > 1:
        factors += f" x parallelism.num_micro_batches={in_flight}"
    nearest = max(step, training.batch_size // step * step)
    return [
        f"training.batch_size={training.batch_size} is not a multiple of {factors}; "
        f"type e.g. training.batch_size={nearest}"
    ]


SCHEMAS: dict[str, dict[str, type]] = {
    "tuner": {
        "lora": LoraConfig,
        "p_tuning_v2": PTuningV2Config,
        "freeze": FreezeConfig,
        "full": FullConfig,
    },
    "parallelism": {
        "single": SingleConfig,
        "data_parallel": DataParallelConfig,
        "distributed": DistributedConfig,
        "sharded": ShardedConfig,
        "model_parallel": ModelParallelConfig,
    },
    "data": {"files": FilesConfig, "general": GeneralConfig, "identity": IdentityConfig},
    "tracking": {
        "wandb": WandbConfig,
        "tensorboard": TensorboardConfig,
        "trackio": TrackioConfig,
        "disabled": DisabledConfig,
    },
}


def register_schemas() -> None:
    """Make the dataclasses known to Hydra as `/schema/...`; options name theirs in `defaults`."""
    store = ConfigStore.instance()
    store.store(group="schema", name="config", node=Config)
    for group, schemas in SCHEMAS.items():
        for name, schema in schemas.items():
            store.store(group=f"schema/{group}", name=name, node=schema)


def parse(cfg: DictConfig) -> Config:
    """Turn a composed DictConfig into dataclasses.

    Raises:
        ValueError: with every problem of the config, one a line.
    """
    config = OmegaConf.to_object(cfg)
    assert isinstance(config, Config)
    if problems := config.problems():
        raise ValueError(join_problems(problems))
    return config


def join_problems(problems: Iterable[str]) -> str:
    """One report of several problems."""
    return "\n".join(f"- {problem}" for problem in problems)
