"""The data options of `conf/` as configs, with the fields that a test changes."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from glm_experiments.config import (
    DataConfig,
    FilesConfig,
    GeneralConfig,
    IdentityConfig,
    PromptFormat,
)

CONF = Path(__file__).resolve().parents[2] / "conf" / "data"
SCHEMAS: dict[str, type] = {
    "files": FilesConfig,
    "general": GeneralConfig,
    "identity": IdentityConfig,
}


def data_config(option: str, **changes: Any) -> Any:
    """The option as `glm-train data=OPTION data.KEY=VALUE ...` would have it, for chatglm3."""
    cfg = OmegaConf.load(CONF / f"{option}.yaml")
    del cfg["defaults"]
    values = {"prompt_format": PromptFormat.chatglm3} | changes
    schema = OmegaConf.structured(SCHEMAS[option])
    config = OmegaConf.to_object(OmegaConf.merge(schema, cfg, values))
    assert isinstance(config, DataConfig)
    assert config.problems() == []
    return config


def files_config(path: Any, **changes: Any) -> Any:
    """`data=files` on `path`, without validation unless it is asked for."""
    return data_config("files", path=path, **{"num_validation_rows": 0} | changes)
