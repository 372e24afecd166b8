"""Schemas of a run: what each conf group may contain, and which combinations make sense.

Imports no torch, so composing, printing and checking a config costs well under a second. Values
live in `conf/`; the dataclasses here give types, units, meaning and rules, and no defaults.
"""

from glm_experiments.config.data import (
    MOST_GENERATED_ROWS,
    DataConfig,
    DataFormat,
    FilesConfig,
    GeneralConfig,
    IdentityConfig,
    LongAnswers,
    OnBadRow,
    TrainOn,
)
from glm_experiments.config.evaluation import EvaluationConfig
from glm_experiments.config.library_arguments import (
    OWNED_TRAINING_ARGUMENTS,
    PASSED_ON,
    passed_on,
)
from glm_experiments.config.model import (
    AttnImplementation,
    Dequantize,
    Dtype,
    ModelConfig,
    PromptFormat,
    Weights,
)
from glm_experiments.config.objective import LOSS, Objective
from glm_experiments.config.parallelism import (
    DataParallelConfig,
    DistributedConfig,
    ModelParallelConfig,
    ParallelismConfig,
    ShardedConfig,
    SingleConfig,
    device_problems,
    devices_problems,
)
from glm_experiments.config.registration import SCHEMAS, kind_of, parse, register_schemas, to_plain
from glm_experiments.config.root import Config
from glm_experiments.config.rules import Impossible, check, join_problems, positive, within
from glm_experiments.config.tracking import (
    DisabledConfig,
    TensorboardConfig,
    TrackingConfig,
    TrackingMode,
    TrackioConfig,
    WandbConfig,
)
from glm_experiments.config.training import Keep, LrScheduler, TrainingConfig, batch_problems
from glm_experiments.config.tuner import (
    FreezeConfig,
    FullConfig,
    LoraConfig,
    OwnWeights,
    PTuningV2Config,
    TrainableDtype,
    TunerConfig,
)

__all__ = [
    "LOSS",
    "MOST_GENERATED_ROWS",
    "OWNED_TRAINING_ARGUMENTS",
    "PASSED_ON",
    "SCHEMAS",
    "AttnImplementation",
    "Config",
    "DataConfig",
    "DataFormat",
    "DataParallelConfig",
    "Dequantize",
    "DisabledConfig",
    "DistributedConfig",
    "Dtype",
    "EvaluationConfig",
    "FilesConfig",
    "FreezeConfig",
    "FullConfig",
    "GeneralConfig",
    "IdentityConfig",
    "Impossible",
    "Keep",
    "LongAnswers",
    "LoraConfig",
    "LrScheduler",
    "ModelConfig",
    "ModelParallelConfig",
    "Objective",
    "OnBadRow",
    "OwnWeights",
    "PTuningV2Config",
    "ParallelismConfig",
    "PromptFormat",
    "ShardedConfig",
    "SingleConfig",
    "TensorboardConfig",
    "TrackingConfig",
    "TrackingMode",
    "TrackioConfig",
    "TrainOn",
    "TrainableDtype",
    "TrainingConfig",
    "TunerConfig",
    "WandbConfig",
    "Weights",
    "batch_problems",
    "check",
    "device_problems",
    "devices_problems",
    "join_problems",
    "kind_of",
    "parse",
    "passed_on",
    "positive",
    "register_schemas",
    "to_plain",
    "within",
]
