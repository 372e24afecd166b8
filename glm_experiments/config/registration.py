"""Makes the schemas known to Hydra, and composed configs into dataclasses."""

from __future__ import annotations

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
