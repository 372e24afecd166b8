"""The version of what a run leaves: its records, saved configs, checkpoints' markers and adapters;
and the way from each version to the next, so that none is orphaned. Knows of the values their keys
and nothing of what they mean."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

KEY = "version"

Step = Callable[[dict[str, Any]], None]
"""Brings what was left a step on, in place: a record, of which there may be no more than `config`,
of that no more than some sections."""


def adding(key: str, value: Any, *, kind: str | None = None) -> Step:
    """A field that there was not before, with the value that means what was done then.

    key: `section.field`. kind: of the section, where not all of its kinds have the field.
    """
    section, _, field = key.partition(".")

    def add(record: dict[str, Any]) -> None:
        part = record["config"].get(section)
        if isinstance(part, dict) and kind in (None, part.get("kind", part.get("name"))):
            part.setdefault(field, value)

    return add


STEPS: tuple[tuple[Step, ...], ...] = (
    # 1 -> 2
    (
        adding("data.cache_dir", None),
        adding("data.long_answers", "leave_out"),
        adding("training.keep", None),
    ),
)
"""What came with each version, in their order: a new field is a line here."""

VERSION = 1 + len(STEPS)


def read_version(data: Mapping[str, Any], *, source: object) -> int:
    """The version of a file's content; what says none is of the first.

    Raises:
        ValueError: naming the source, where it is none or a later one than is known here.
    """
    version = data.get(KEY, 1)
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise ValueError(f"{source} has the version {version!r}, which is none; copy it again")
    if version > VERSION:
        raise ValueError(
            f"{source} is of version {version}, and this tool knows no later one than {VERSION}; "
            "update it"
        )
    return version


def migrate(version: int, record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of some version as today's; a copy."""
    migrated = copy.deepcopy(dict(record))
    for steps in STEPS[version - 1 :]:
        for step in steps:
            step(migrated)
    return migrated


def migrate_config(version: int, config: Mapping[str, Any]) -> dict[str, Any]:
    """A nested config, or some of its sections, as today's."""
    config = {key: value for key, value in config.items() if key != KEY}
    migrated: dict[str, Any] = migrate(version, {"config": config})["config"]
    return migrated


def migrate_settings(version: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Flat settings, `section.field` to value, as today's."""
    sections: dict[str, dict[str, Any]] = {}
    others = {}
    for key, value in settings.items():
        section, dot, field = key.partition(".")
        if dot:
            sections.setdefault(section, {})[field] = value
        else:
            others[key] = value
    return {
        **others,
        **{
            f"{section}.{field}": value
            for section, part in migrate_config(version, sections).items()
            for field, value in part.items()
        },
    }
