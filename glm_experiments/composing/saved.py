"""The config that a run was saved with -> a config again, with overrides and the types of today.
Knows no folder: the config comes read, and in today's fields."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from glm_experiments import config as schemas
from glm_experiments.composing.explaining import apply_values, describe_option
from glm_experiments.composing.grammar import quote_text
from glm_experiments.composing.loader import build_loader, compose


def recompose(saved: Any, overrides: list[str]) -> DictConfig:
    """A saved config with overrides: `group=option` exchanges a whole section.

    Raises:
        ValueError: with every bad override, one a line.
    """
    loader = build_loader()
    overrides = [quote_text(override) for override in overrides]
    sections = set(loader.list_groups("")) & set(saved)
    options = [each for each in overrides if each.partition("=")[0] in sections]
    values = [each for each in overrides if each not in options]
    problems: list[str] = []
    for override in [each for each in values if each.startswith(("experiment=", "sweep="))]:
        problems.append(f"{override} is for glm-train; type what is to differ from the run")
        values.remove(override)
    # The sections' schemas type what a user may now change.
    typed = OmegaConf.structured(schemas.Config)
    for section in schemas.SCHEMAS:
        typed[section] = OmegaConf.structured(type_of(section, saved[section]))
        if "kind" in saved[section]:
            del saved[section]["kind"]
    for override in options:
        try:
            section = override.partition("=")[0]
            saved[section] = typed[section] = compose(loader, [override])[section]
        except (HydraException, OmegaConfBaseException) as error:
            problems.append(describe_option(loader, override, error))
    cfg = OmegaConf.merge(typed, saved)
    assert isinstance(cfg, DictConfig)
    problems += apply_values(cfg, values)
    if problems:
        raise ValueError(schemas.join_problems(problems))
    return cfg


def type_of(section: str, cfg: DictConfig) -> type:
    """The schema whose fields are exactly those of a saved section, of the kind that it says.

    Where it says none, as before version 2, of several such the one that it is named after. A name
    alone does not tell: an option of the user's own may have any.

    Raises:
        ValueError: where there is none.
    """
    name, keys = cfg.get("name"), set(cfg) - {"kind"}
    fitting = {
        kind: schema
        for kind, schema in schemas.SCHEMAS[section].items()
        if {each.name for each in fields(schema)} == keys and kind == cfg.get("kind", kind)
    }
    if not fitting:
        raise ValueError(f"the saved {section} ({name}) is of another version of this tool")
    return fitting[name] if name in fitting else next(iter(fitting.values()))
