"""What is kept of a composed config, as Hydra would, but without the secrets in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from glm_experiments.config import SCHEMAS, kind_of
from glm_experiments.record.files import SAVED_CONFIG
from glm_experiments.record.masking import (
    MASK,
    SECRET_WORD,
    Secrets,
    find_secrets,
    mask_override,
    mask_secrets,
)
from glm_experiments.record.versions import KEY, VERSION
from glm_experiments.record.writing import remove_half_written, write_text

# As Hydra names it, in the folder of a sweep.
SWEEP_CONFIG = "multirun.yaml"


def secrets_of(cfg: DictConfig) -> Secrets:
    """The secrets of one job's config and of Hydra's own section."""
    sections = (cfg, HydraConfig.instance().cfg)
    return Secrets(
        value
        for section in sections
        for value in find_secrets(OmegaConf.to_container(section, resolve=section is cfg))
    )


def keep_config(folder: Path, cfg: DictConfig) -> None:
    """Write what Hydra composed for a job into its folder."""
    context, hydra_cfg = HydraConfig.get(), HydraConfig.instance().cfg
    assert hydra_cfg is not None
    secrets = secrets_of(cfg)
    parts = {
        SAVED_CONFIG.name: {KEY: VERSION, **mask_secrets(with_kinds(cfg))},
        "hydra.yaml": mask_typed(OmegaConf.to_container(hydra_cfg)),
        "overrides.yaml": mask_typed(OmegaConf.to_container(context.overrides.task)),
    }
    (folder / SAVED_CONFIG.parent).mkdir(parents=True, exist_ok=True)
    remove_half_written(folder / SAVED_CONFIG.parent)
    for name, part in parts.items():
        write_text(folder / SAVED_CONFIG.parent / name, render(secrets.hide_all(part)))
    if context.mode is RunMode.MULTIRUN:
        mask_sweep(Path(context.sweep.dir), secrets)


def mask_sweep(folder: Path, secrets: Secrets) -> None:
    """Hide the secrets in what Hydra has written into a sweep's folder."""
    sweep = folder / SWEEP_CONFIG
    if sweep.is_file():
        before = OmegaConf.to_container(OmegaConf.load(sweep))
        if (after := secrets.hide_all(mask_typed(before))) != before:
            write_text(sweep, render(after))


def with_kinds(cfg: DictConfig) -> dict[str, Any]:
    """A composed config as plain values, interpolations as they are, with its sections' kinds."""
    plain = OmegaConf.to_container(cfg)
    assert isinstance(plain, dict)
    for section in SCHEMAS:
        schema = OmegaConf.get_type(cfg[section])
        assert schema is not None
        plain[section]["kind"] = kind_of(section, schema)
    return plain  # type: ignore[return-value]


def render(part: Any) -> str:
    """A part of a config as YAML, its interpolations as they are."""
    return OmegaConf.to_yaml(OmegaConf.create(part))


def mask_typed(value: Any) -> Any:
    """Hydra's own section: no secret stands there, nor in what was typed, single or joined."""
    return mask_texts(mask_secrets(value))


def mask_texts(value: Any) -> Any:
    """A nested value in which no text has an override with a secret in it."""
    if isinstance(value, str):
        return SECRET_WORD.sub(rf"\1{MASK}", mask_override(value))
    if isinstance(value, dict):
        return {key: mask_texts(each) for key, each in value.items()}
    return [mask_texts(each) for each in value] if isinstance(value, list) else value
