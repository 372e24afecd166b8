"""Makes the schemas known to Hydra, and composed configs into dataclasses."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from glm_experiments.config.data import FilesConfig, GeneralConfig, IdentityConfig
from glm_experiments.config.parallelism import (
    DataParallelConfig,
    DistributedConfig,
    ModelParallelConfig,
    ShardedConfig,
    SingleConfig,
)
from glm_experiments.config.root import Config
from glm_experiments.config.rules import Impossible, join_problems
from glm_experiments.config.tracking import (
    DisabledConfig,
    TensorboardConfig,
    TrackioConfig,
    WandbConfig,
)
from glm_experiments.config.tuner import FreezeConfig, FullConfig, LoraConfig, PTuningV2Config

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
        Impossible: with every problem of the config, one a line.
    """
    config = OmegaConf.to_object(cfg)
    assert isinstance(config, Config)
    if problems := config.problems():
        raise Impossible(join_problems(problems))
    return config


def kind_of(section: str, schema: type) -> str:
    """Which of a section's schemas it is, as `defaults` name it: `lora`."""
    return next(kind for kind, each in SCHEMAS[section].items() if each is schema)


def to_plain(config: Config) -> dict[str, Any]:
    """A config as nested plain values, as it is kept: with the kind of every section that has
    several, which a name of the user's own doesn't tell."""
    plain = asdict(config)
    for section in SCHEMAS:
        plain[section]["kind"] = kind_of(section, type(getattr(config, section)))
    return plain
