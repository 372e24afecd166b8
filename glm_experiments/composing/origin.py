"""`from=RUN_DIR`: the config of a recorded run as an option, for what is typed to go on top of it.
Knows what a run's folder keeps of its config, and nothing else of the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from glm_experiments import config as schemas
from glm_experiments.composing.folders import key_of
from glm_experiments.record.files import SAVED_CONFIG
from glm_experiments.record.read_back import read_saved, read_trained_config

GROUP = "from"


def store_origins(overrides: Sequence[str]) -> None:
    """Make the options of `from=` known to Hydra, as far as a command line has some.

    Raises:
        ValueError: for a folder that holds no run, or a run of another version of this tool.
    """
    options = {key_of(each) for each in overrides}
    for override in overrides:
        if key_of(override) != GROUP:
            continue
        if "experiment" in options:
            raise ValueError(
                f"{override} brings all values along, and so would experiment=; type what is to "
                "differ from the run"
            )
        for option in read_options(override):
            folder = Path(option)
            # Hydra looks below the group, wherever a path begins.
            rooms = [each for each in folder.parts[:-1] if each != folder.anchor]
            ConfigStore.instance().store(
                group="/".join([GROUP, *rooms]),
                name=folder.name,
                node=build_option(folder, without=options),
                package="_global_",
            )


def read_options(override: str) -> list[str]:
    """The folders that an override names; none where it can't be read: that is said elsewhere."""
    try:
        (parsed,) = OverridesParser.create().parse_overrides([override])
    except HydraException:
        return []
    if parsed.is_sweep_override():
        return [each.strip("'\"") for each in parsed.sweep_string_iterator()]
    value = parsed.value()
    return [] if value is None else [str(value)]


def build_option(run_dir: Path, *, without: set[str]) -> dict[str, Any]:
    """A run's config as an option over the defaults.

    without: sections that something else chooses.

    Raises:
        ValueError: where there is no config that could be used.
    """
    saved = read_unresolved(run_dir)
    defaults: list[Any] = []
    for section, kinds in schemas.SCHEMAS.items():
        if section in without:
            continue
        kind = saved[section].pop("kind", saved[section]["name"])
        if kind not in kinds:
            raise ValueError(f"{run_dir} was trained with {section}={kind}, which there isn't here")
        defaults.append({f"override /{section}": kind})
    saved = {key: value for key, value in saved.items() if key not in without}
    saved.get("training", {}).update(resume="auto")  # of its own checkpoints, not of that run's
    return {"defaults": [*defaults, "_self_"], **saved}


def read_unresolved(run_dir: Path) -> dict[str, Any]:
    """The config that a run was made with, interpolations as they are where they were kept.

    Raises:
        ValueError: where there is none.
    """
    file = run_dir / SAVED_CONFIG
    if file.is_file():
        composed = OmegaConf.to_container(OmegaConf.load(file))
        assert isinstance(composed, dict)
        return read_saved(composed, source=file)
    trained = read_trained_config(run_dir) if run_dir.is_dir() else None
    if trained is None:
        raise ValueError(
            f"{GROUP}={run_dir} is no run's folder (it has no {SAVED_CONFIG}); type the folder of "
            "a run, e.g. the best that a sweep.json names"
        )
    return dict(trained)
