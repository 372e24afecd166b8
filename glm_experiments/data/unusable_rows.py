"""What becomes of rows that no sample, or no whole one, was made of: counted, kept, or an end.

Knows their notes and counts, no tokenizer.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from glm_experiments.config import DataConfig, FilesConfig, LongAnswers
from glm_experiments.data.rejections import (
    ReadReport,
    Rejection,
    check_rejections,
    write_rejections,
)
from glm_experiments.data.row_parsing import Sample
from glm_experiments.data.token_cache import BadRowNote, TokenTable
from glm_experiments.data.tokenisation import TOO_LONG

log = logging.getLogger(__name__)


def check_rows(
    read: ReadReport,
    rows: Mapping[str, Sequence[Sample]],
    tables: Mapping[str, TokenTable],
    *,
    config: DataConfig,
) -> dict[str, int]:
    """Let rows that couldn't be encoded join the rejected ones; returns how many, by reason.

    Raises:
        ValueError: too many bad ones, an answer that is too long where that is to stop the run, or
            a split without any row left.
    """
    found: list[Rejection] = []
    too_long: list[tuple[BadRowNote, Rejection]] = []
    for name, table in tables.items():
        for note in table.bad_rows:
            row = rows[name][note.row]
            rejection = Rejection(row.file, row.line, note.reason, note.message)
            if note.reason == TOO_LONG:
                too_long.append((note, rejection))
            else:
                found.append(rejection)
    report = replace(read, rejections=(*read.rejections, *found))
    check_bad_rows(report, num_read=len(read.rejections), rows=rows, config=config)
    whole = replace(
        report, rejections=(*report.rejections, *(rejection for _, rejection in too_long))
    )
    if too_long:
        check_long_answers(too_long, num_rows=len(rows["train"]), config=config)
        write_rejections(whole.rejected_file, whole.rejections)
    if whole.rejections:
        log.warning("left out %s", whole.describe())
    for name, table in tables.items():
        if rows[name] and not len(table.rows):
            raise ValueError(f"no row of {name} can be used: {whole.describe()}")
    if tables["train"].num_cut_answers:
        log.warning("%s", describe_cut_answers(tables["train"], config=config))
    return whole.count_dropped()


def check_bad_rows(
    report: ReadReport,
    *,
    num_read: int,
    rows: Mapping[str, Sequence[Sample]],
    config: DataConfig,
) -> None:
    """Stop where too many rows are broken; num_read: so many of them were found when reading."""
    found = report.rejections[num_read:]
    if isinstance(config, FilesConfig):
        # Not all rows that were read need have been encoded, so shares are combined, not numbers.
        share_read = num_read / report.num_rows
        share_found = len(found) / sum(map(len, rows.values()))
        check_rejections(
            report,
            bad_share=share_read + (1 - share_read) * share_found,
            on_bad_row=config.on_bad_row,
            max_bad_share=config.max_bad_share,
        )
    elif found:
        raise ValueError(str(found[0]))


def check_long_answers(
    too_long: Sequence[tuple[BadRowNote, Rejection]], *, num_rows: int, config: DataConfig
) -> None:
    """Stop where an answer that is too long is to stop the run, or nothing else is there."""
    needed = max(note.needed_length for note, _ in too_long)
    told = f"{len(too_long)} of {num_rows} rows ({len(too_long) / num_rows:.1%}) have an answer "
    told += f"that is longer than data.context_length={config.context_length} allows"
    if config.long_answers is LongAnswers.stop:
        raise ValueError(
            f"{told}; the first: {too_long[0][1]}; type data.context_length={needed} for the "
            "longest, data.long_answers=cut to train what fits of each, or leave_out"
        )
    if len(too_long) == num_rows:
        raise ValueError(
            f"{told}, so none is left; type data.context_length={needed} for the longest, or "
            "data.long_answers=cut to train what fits of each"
        )
    log.warning("%s and are left out; data.long_answers=cut would train what fits of each", told)


def describe_cut_answers(table: TokenTable, *, config: DataConfig) -> str:
    """How many answers train without their end."""
    num, samples = table.num_cut_answers, len(table.rows)
    return (
        f"{num} of {samples} training answers ({num / samples:.1%}) are longer than "
        f"data.context_length={config.context_length} allows and are cut: what fits trains, "
        "without an end"
    )
