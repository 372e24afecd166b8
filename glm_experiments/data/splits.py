"""Which samples are trained on and which are held out: from files, the hub or a generator.

Knows no tokenizer.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from random import Random

from glm_experiments.config import (
    DataConfig,
    FilesConfig,
    GeneralConfig,
    IdentityConfig,
    OnBadRow,
)
from glm_experiments.data.conversations import Conversation
from glm_experiments.data.forms import HISTORY, Form, describe_form, detect_form
from glm_experiments.data.generated_splits import generate_general, generate_identity
from glm_experiments.data.reading import read_file
from glm_experiments.data.rejections import BadRow, ReadReport, Rejection, check_rejections
from glm_experiments.data.row_parsing import Sample, read_row
from glm_experiments.data.rows import Row
from glm_experiments.data.sources import HubDataset, find_sources, read_hub_dataset

log = logging.getLogger(__name__)

NUM_PROBED_ROWS = 100
"""Rows whose columns decide the form of a source."""


@dataclass(frozen=True, slots=True)
class Splits:
    """Samples to train on, named validation sets, what was read, and a hash of all the content."""

    train: list[Sample]
    validation: dict[str, list[Sample]]
    report: ReadReport
    fingerprint: str


def load_splits(config: DataConfig, *, rejected_file: Path) -> Splits:
    """Read or generate all samples.

    Args:
        rejected_file: where rows that can't be used are written down, with their reasons.

    Raises:
        ValueError: no such file, an unreadable or empty one, no known form, too many bad rows, or
            fewer rows than are to be held out.
    """
    report = None
    match config:
        case FilesConfig():
            train, validation, report = _load_files(config, rejected_file)
        case GeneralConfig():
            train, validation = generate_general(config)
        case IdentityConfig():
            train, validation = generate_identity(config)
        case _:
            raise TypeError(f"no such data: {type(config).__name__}")
    if report is None:
        num_rows = len(train) + sum(map(len, validation.values()))
        report = ReadReport(num_rows, (), rejected_file)
    return Splits(train, validation, report, fingerprint_samples([train, *validation.values()]))


def load_named(
    config: FilesConfig, *, key: str, num_rows: int | None, rejected_file: Path
) -> Splits:
    """The rows of one source to measure on, and none to train on.

    Args:
        key: `path` or `validation_path`, whichever names the source.
        num_rows: so many, drawn at random; None: all that can be used.
        rejected_file: as for `load_splits`.

    Raises:
        ValueError: no such file, an unreadable or empty one, no known form, too many bad rows, or
            fewer rows than are wanted.
    """
    path = getattr(config, key)
    split = config.split if key == "path" else config.validation_split
    read = _read_sources(find_sources(path, key=key, split=split, config=config), config=config)
    report = ReadReport(read.num_rows, tuple(read.rejections), rejected_file)
    _check_report(report, config)
    if not read.samples:
        raise ValueError(f"data.{key}={path} has no usable row: {report.describe()}")
    if num_rows is not None and num_rows > len(read.samples):
        raise ValueError(
            f"data.num_validation_rows={num_rows}, but data.{key}={path} has {len(read.samples)} "
            "usable rows; leave data.num_validation_rows out for all of them"
        )
    rng = Random(f"split {config.split_seed}")
    samples, _ = _draw(read.samples, num_rows or len(read.samples), rng)
    return Splits([], {"validation": samples}, report, fingerprint_samples([[], samples]))


def fingerprint_samples(splits: Iterable[Sequence[Sample]]) -> str:
    """Hash of what is said in all samples, in their order; not of where they were read."""
    digest = blake2b(digest_size=16)
    for samples in splits:
        digest.update(b"\x1csplit")
        for sample in samples:
            if isinstance(sample, Conversation):
                parts = [
                    part
                    for message in sample.messages
                    for part in (message.role, message.content, message.input)
                ]
            else:
                parts = [sample.text]
            lengths = ",".join(str(len(part)) for part in parts)
            digest.update(f"\x1e{lengths}:{''.join(parts)}".encode())
    return digest.hexdigest()


def _load_files(
    config: FilesConfig, rejected_file: Path
) -> tuple[list[Sample], dict[str, list[Sample]], ReadReport]:
    sources = find_sources(config.path, key="path", split=config.split, config=config)
    read = _read_sources(sources, config=config)
    num_rows, rejections = read.num_rows, read.rejections
    held_out = None
    if config.validation_path is not None:
        others = find_sources(
            config.validation_path,
            key="validation_path",
            split=config.validation_split,
            config=config,
        )
        if shared := [str(source) for source in others if source in sources]:
            log.warning("%s is both trained on and held out", ", ".join(shared))
        held_out = _read_sources(others, config=config)
        num_rows, rejections = num_rows + held_out.num_rows, rejections + held_out.rejections
    report = ReadReport(num_rows, tuple(rejections), rejected_file)
    _check_report(report, config)
    if not read.samples:
        raise ValueError(f"data.path={config.path} has no usable row: {report.describe()}")
    rng = Random(f"split {config.split_seed}")
    wanted = config.num_validation_rows
    if held_out is None:
        if wanted >= (num_usable := len(read.samples)):
            fewer = f"data.num_validation_rows={num_usable // 10 + 1}, or "
            raise ValueError(
                f"data.num_validation_rows={wanted} are to be held out of data.path={config.path}, "
                f"which has {num_usable} usable rows, so none would be left to train on; "
                f"type e.g. {fewer if num_usable > 1 else ''}data.validation_path=FILE"
            )
        validation, train = _draw(read.samples, wanted, rng)
    else:
        if wanted > len(held_out.samples) or not held_out.samples:
            raise ValueError(
                f"data.num_validation_rows={wanted}, but data.validation_path="
                f"{config.validation_path} has {len(held_out.samples)} usable rows; "
                f"type data.num_validation_rows={len(held_out.samples)}"
            )
        # With a source of its own, 0 means all that it has.
        validation, _ = _draw(held_out.samples, wanted or len(held_out.samples), rng)
        train = read.samples
    if config.num_train_rows is not None:
        train, _ = _draw(train, min(config.num_train_rows, len(train)), rng)
    return train, {"validation": validation} if validation else {}, report


def _check_report(report: ReadReport, config: FilesConfig) -> None:
    check_rejections(
        report,
        bad_share=len(report.rejections) / report.num_rows,
        on_bad_row=config.on_bad_row,
        max_bad_share=config.max_bad_share,
    )


def _draw(samples: list[Sample], num: int, rng: Random) -> tuple[list[Sample], list[Sample]]:
    """`num` samples drawn at random, and the others; both in their order."""
    drawn = set(rng.sample(range(len(samples)), num))
    return (
        [sample for index, sample in enumerate(samples) if index in drawn],
        [sample for index, sample in enumerate(samples) if index not in drawn],
    )


@dataclass(frozen=True, slots=True)
class _Read:
    samples: list[Sample]
    rejections: list[Rejection]
    num_rows: int


def _read_sources(sources: Sequence[Path | HubDataset], *, config: FilesConfig) -> _Read:
    samples: list[Sample] = []
    rejections: list[Rejection] = []
    num_rows = 0
    for source in sources:
        rows = read_file(source) if isinstance(source, Path) else read_hub_dataset(source)
        form, rows = _detect(rows, config=config, source=str(source))
        first = len(samples)
        for row in rows:
            num_rows += 1
            try:
                samples.append(read_row(row, form))
            except BadRow as bad:
                rejections.append(Rejection(row.file, row.line, bad.reason, str(bad)))
                if config.on_bad_row is OnBadRow.error:
                    break
        log.info("read %s: %d usable rows", source, len(samples) - first)
    return _Read(samples, rejections, num_rows)


def _detect(rows: Iterator[Row], *, config: FilesConfig, source: str) -> tuple[Form, Iterator[Row]]:
    """The form of a source, by the columns of its first rows; and all its rows again."""
    probed = list(islice(rows, NUM_PROBED_ROWS))
    good = [row for row in probed if row.problem is None]
    if not good:
        bad = probed[0]
        raise ValueError(f"{source} has no readable row: line {bad.line}: {bad.problem}")
    counts = Counter(chain.from_iterable(row.columns for row in good))
    # What only few rows have is their fault, unless the user names it.
    named = (config.prompt_column, config.response_column, config.history_column, HISTORY)
    columns = [name for name, num in counts.items() if 2 * num >= len(good) or name in named]
    form = detect_form(columns, config=config, source=source)
    how = "detected" if config.format is None else "as data.format says"
    log.info("%s has the form %s, %s", source, describe_form(form, columns), how)
    return form, chain(probed, rows)
