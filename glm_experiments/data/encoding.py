"""Splits -> token ids and labels, made once for each content and settings, with their counts.

Knows a tokenizer object, no model. How rows become token ids stands in `tokenisation.py`, how they
are kept in `cache_folder.py`.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, overload

import numpy as np

from glm_experiments.config import DataConfig, LongAnswers
from glm_experiments.data.cache_folder import cached_tables
from glm_experiments.data.context_fitting import find_last_answer
from glm_experiments.data.conversations import PlainText
from glm_experiments.data.packing import Item, pack
from glm_experiments.data.prompt_formats import describe_prompt
from glm_experiments.data.row_parsing import Sample
from glm_experiments.data.splits import Splits
from glm_experiments.data.token_cache import TokenTable
from glm_experiments.data.tokenisation import (
    TokenSettings,
    check_tokenizer,
    encode_split,
    hash_inputs,
)
from glm_experiments.data.unusable_rows import check_rows
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
    """Samples for the loss, and the last question of every conversation for its answer.
    tokens_fingerprint: a hash of the samples."""

    samples: Sequence[Item]
    questions: list[Question]
    tokens_fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class EncodedSplits:
    """`train`: samples, or rows of several under `data.packing`. `counts`: for the record.
    `trained_fingerprint`: a hash of which rows train, however much of each."""

    train: Sequence[Item]
    validation: dict[str, ValidationSet]
    counts: dict[str, Any]
    trained_fingerprint: str


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


def encode_splits(
    splits: Splits, tokenizer: Tokenizer, *, config: DataConfig, longest: int | None
) -> EncodedSplits:
    """Token ids of all splits, from the cache where they have been made before.

    The context length cuts what trains. What is held out stays whole up to what the model can
    take, so that runs of any context length are measured by the same questions and tokens.

    longest: tokens that the model was made for; None: it doesn't say.

    Raises:
        ValueError: a tokenizer without the prompt format's tokens; answers longer than the context
            where that is to stop the run; a split whose rows are all left out.
    """
    rows: dict[str, list[Sample]] = {"train": splits.train, **splits.validation}
    trains = TokenSettings(
        prompt_format=config.prompt_format.value,
        train_on=config.train_on.value,
        long_answers=config.long_answers,
        context_length=config.context_length,
        text_length=config.context_length,
    )
    measures = replace(trains, context_length=longest, long_answers=LongAnswers.cut)
    settings = {name: trains if name == "train" else measures for name in rows}
    check_tokenizer(tokenizer, trains)
    tables = cached_tables(
        hash_inputs(splits.fingerprint, tokenizer, settings),
        lambda: {
            name: encode_split(samples, tokenizer, settings=settings[name], name=name)
            for name, samples in rows.items()
        },
        cache_dir=config.cache_dir,
    )
    dropped = check_rows(splits.report, rows, tables, config=config)
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
        name: ValidationSet(
            samples[name],
            _build_questions(rows[name], samples[name], measures),
            hash_tokens(tables[name]),
        )
        for name in splits.validation
    }
    used = hash_rows(splits.fingerprint, tables["train"])
    return EncodedSplits(train, validation, counts, trained_fingerprint=used)


def describe_counts(value: Any) -> str:
    """Counts in a line: numbers and their names; what is 0 is not named."""
    if not isinstance(value, dict):
        return f"{value} rows"
    named = [f"{number} {name.replace('_', ' ')}" for name, number in value.items() if number]
    return ", ".join(named) or "0"


def hash_rows(fingerprint: str, table: TokenTable) -> str:
    """Hash of the rows that samples were made of; fingerprint: of all rows."""
    return blake2b(
        fingerprint.encode() + np.unique(table.rows).tobytes(), digest_size=16
    ).hexdigest()


def hash_tokens(table: TokenTable) -> str:
    """Hash of all samples: their tokens, and which of them count."""
    digest = blake2b(digest_size=16)
    for array in (table.input_ids, table.is_trained, table.offsets):
        digest.update(array.tobytes())
    return digest.hexdigest()


def hash_measured(validation: ValidationSet, *, num_questions: int | None) -> dict[str, str]:
    """Hashes of what a set measures: its answers' questions, and the tokens of its loss. Only
    figures of equal ones can be compared."""
    asked = [(each.question, each.reference) for each in validation.questions[:num_questions]]
    text = json.dumps(asked).encode(errors="surrogatepass")
    return {
        "questions": blake2b(text, digest_size=16).hexdigest(),
        "tokens": validation.tokens_fingerprint,
    }


def _count(table: TokenTable) -> dict[str, float]:
    num_samples = len(table.rows)
    return {
        "rows": len(np.unique(table.rows)),
        "samples": num_samples,
        "tokens": len(table.input_ids),
        "trained_tokens": int(table.is_trained.sum()),
        "truncated_samples": table.num_truncated,
        "cut_tokens": table.num_cut,
        "cut_answers": table.num_cut_answers,
        "cut_answer_share": round(table.num_cut_answers / num_samples, 4) if num_samples else 0.0,
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
