"""Splits -> token ids and labels, made once for each content and settings, with their counts.

Knows a tokenizer object, no model. How rows become token ids stands in `tokenisation.py`, how they
are kept in `cache_folder.py`.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np

from glm_experiments.config import DataConfig, FilesConfig
from glm_experiments.data.cache_folder import cached_tables
from glm_experiments.data.context_fitting import find_last_answer
from glm_experiments.data.conversations import PlainText
from glm_experiments.data.packing import Item, pack
from glm_experiments.data.prompt_formats import describe_prompt
from glm_experiments.data.rejections import Rejection, check_rejections
from glm_experiments.data.row_parsing import Sample
from glm_experiments.data.splits import Splits
from glm_experiments.data.token_cache import TokenTable
from glm_experiments.data.tokenisation import (
    TokenSettings,
    check_tokenizer,
    encode_split,
    hash_inputs,
)
from glm_experiments.labels import IGNORED
from glm_experiments.tokenizer_protocol import Tokenizer

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the model: token ids, the same for a reader, and the wanted answer."""

    prompt_ids: list[int]
    question: str
    reference: str
    kind: str | None


@dataclass(frozen=True, slots=True)
class ValidationSet:
    """Samples for the loss, and the last question of every conversation for its answer."""

    samples: Sequence[Item]
    questions: list[Question]


@dataclass(frozen=True, slots=True)
class EncodedSplits:
    """`train`: samples, or rows of several under `data.packing`. `counts`: for the record."""

    train: Sequence[Item]
    validation: dict[str, ValidationSet]
    counts: dict[str, Any]


class EncodedSamples(Sequence[Item]):
    """Samples of a table as `input_ids` and `labels`; a first token has nothing to be told from."""

    def __init__(self, table: TokenTable) -> None:
        self.table = table

    def __len__(self) -> int:
        return len(self.table.rows)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        begin, end = self.table.offsets[index : index + 2]
        ids = self.table.input_ids[begin:end]
        labels = np.where(self.table.is_trained[begin:end], ids, IGNORED)
        labels[:1] = IGNORED
        return {"input_ids": ids.tolist(), "labels": labels.tolist()}


def encode_splits(splits: Splits, tokenizer: Tokenizer, *, config: DataConfig) -> EncodedSplits:
    """Token ids of all splits, from the cache where they have been made before.

    Raises:
        ValueError: a tokenizer without the prompt format's tokens; too many rows whose answer is
            longer than the context; a split whose rows are all left out.
    """
    rows: dict[str, list[Sample]] = {"train": splits.train, **splits.validation}
    settings = TokenSettings(
        prompt_format=config.prompt_format.value,
        context_length=config.context_length,
        train_on=config.train_on.value,
    )
    check_tokenizer(tokenizer, settings)
    key = hash_inputs(splits.fingerprint, tokenizer, settings)
    tables = cached_tables(
        key,
        lambda: {
            name: encode_split(samples, tokenizer, settings=settings, name=name)
            for name, samples in rows.items()
        },
        cache_dir=config.cache_dir,
    )
    dropped = _check_bad_rows(splits, rows, tables, config)
    samples = {name: EncodedSamples(table) for name, table in tables.items()}
    counts: dict[str, Any] = {
        "read": splits.report.num_rows,
        "dropped": dropped,
        **{name: _count(table) for name, table in tables.items() if rows[name]},
    }
    train: Sequence[Item] = samples["train"]
    if config.packing and train:
        lengths = np.diff(tables["train"].offsets).tolist()
        train = pack(
            train, lengths=lengths, context_length=config.context_length, seed=config.split_seed
        )
        counts["train"] |= {
            "packed_rows": len(train),
            "packed_share": round(sum(lengths) / (len(train) * config.context_length), 4),
        }
    for name, value in counts.items():
        log.info("%s: %s", name, describe_counts(value))
    validation = {
        name: ValidationSet(samples[name], _build_questions(rows[name], samples[name], settings))
        for name in splits.validation
    }
    return EncodedSplits(train, validation, counts)


def describe_counts(value: Any) -> str:
    """Counts in a line: numbers and their names."""
    if not isinstance(value, dict):
        return f"{value} rows"
    return ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in value.items()) or "0"


def _check_bad_rows(
    splits: Splits,
    rows: Mapping[str, Sequence[Sample]],
    tables: Mapping[str, TokenTable],
    config: DataConfig,
) -> dict[str, int]:
    """Rows that couldn't be encoded join the rejected ones; returns the number of all by reason.

    Raises:
        ValueError: too many of them, or a split without any row left.
    """
    notes = [(name, note) for name, table in tables.items() for note in table.bad_rows]
    found = [
        Rejection(rows[name][note.row].file, rows[name][note.row].line, note.reason, note.message)
        for name, note in notes
    ]
    report = replace(splits.report, rejections=(*splits.report.rejections, *found))
    needed = max((note.needed_length for _, note in notes), default=0)
    typed = f"type data.context_length={needed} for the longest answer"
    advice = f", or {typed}" if needed else ""
    if isinstance(config, FilesConfig):
        # Not all rows that were read need have been encoded, so shares are combined, not numbers.
        share_read = len(splits.report.rejections) / splits.report.num_rows
        share_found = len(found) / sum(map(len, rows.values()))
        check_rejections(
            report,
            bad_share=share_read + (1 - share_read) * share_found,
            on_bad_row=config.on_bad_row,
            max_bad_share=config.max_bad_share,
            advice=advice,
        )
        if report.rejections:
            log.warning("left out %s", report.describe())
    elif found:
        raise ValueError(f"{found[0]}; {typed}" if needed else str(found[0]))
    for name, table in tables.items():
        if rows[name] and not len(table.rows):
            raise ValueError(f"no row of {name} can be used; the first: {found[0]}{advice}")
    return report.count_dropped()


def _count(table: TokenTable) -> dict[str, int]:
    return {
        "rows": len(np.unique(table.rows)),
        "samples": len(table.rows),
        "tokens": len(table.input_ids),
        "trained_tokens": int(table.is_trained.sum()),
        "truncated_samples": table.num_truncated,
        "cut_tokens": table.num_cut,
    }


def _build_questions(
    rows: Sequence[Sample], samples: EncodedSamples, settings: TokenSettings
) -> list[Question]:
    """The last question of every conversation that has a sample, as that sample asks it."""
    last_samples = {int(row): index for index, row in enumerate(samples.table.rows)}
    questions = []
    for row, index in last_samples.items():
        conversation = rows[row]
        if isinstance(conversation, PlainText):
            continue
        item = samples[index]
        end = find_last_answer([label != IGNORED for label in item["labels"]])
        *asked, answer = conversation.messages
        questions.append(
            Question(
                item["input_ids"][:end],
                describe_prompt(asked, prompt_format=settings.prompt_format),
                answer.content,
                conversation.kind,
            )
        )
    return questions
