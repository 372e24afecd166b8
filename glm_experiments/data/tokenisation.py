"""Samples of one split -> a table of token ids that fit the context.

Knows a tokenizer object and the prompt formats, neither files nor splits.
"""

import json
import multiprocessing
import os
import signal
import sys
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from glm_experiments.config import LongAnswers
from glm_experiments.data import answers, context_fitting, prompt_formats, prompts, token_ids
from glm_experiments.data.context_fitting import find_last_answer, fit_context
from glm_experiments.data.conversations import Message, PlainText
from glm_experiments.data.prompts import Encoded
from glm_experiments.data.rejections import BadRow
from glm_experiments.data.row_parsing import Sample
from glm_experiments.data.token_cache import BadRowNote, TokenTable, join_tables
from glm_experiments.live import show_bar
from glm_experiments.tokenizer_protocol import Tokenizer

TOO_LONG = "answer longer than the context"
ENCODING_CODE = (answers, context_fitting, prompt_formats, prompts, token_ids)
"""The modules, beside this one, on which token ids depend."""
NUM_ROWS_A_PIECE = 500
NUM_ROWS_FOR_PROCESSES = 20_000
"""So many rows are worth the start of several processes."""
PROBE = "Hello, 你好！ 12 + 30 = 42\n\t<|user|> [gMASK] é 🙂"
"""Encoded to tell apart tokenizers that have the same vocabulary."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenSettings:
    """What decides the token ids of a sample, beside the tokenizer.

    context_length: tokens that a sample may have; None: any number. text_length: those of a sample
    of plain text.
    """

    prompt_format: str
    train_on: str
    long_answers: LongAnswers
    context_length: int | None
    text_length: int


class TooLong(BadRow):
    """An answer doesn't fit; `needed_length`: the context length in which it would."""

    def __init__(self, detail: str, needed_length: int) -> None:
        super().__init__(TOO_LONG, detail)
        self.needed_length = needed_length


def check_tokenizer(tokenizer: Tokenizer, settings: TokenSettings) -> None:
    """Encode a word, so that what is wrong for every row is not reported as one row's fault.

    Raises:
        ValueError: a tokenizer without the format's tokens, or a context too short for any text.
    """
    prompts.encode_prompt(tokenizer, [Message("user", "?")], prompt_format=settings.prompt_format)
    answers.encode_answer(tokenizer, "!", prompt_format=settings.prompt_format)
    prompts.encode_text(tokenizer, "", context_length=settings.text_length)


def hash_inputs(
    fingerprint: str, tokenizer: Tokenizer, settings: Mapping[str, TokenSettings]
) -> str:
    """Hash of all that decides the tables: content, each split's settings, tokenizer, and the
    encoding code."""
    formats = sorted({each.prompt_format for each in settings.values()})
    facts = {
        "content": fingerprint,
        "settings": {name: asdict(each) for name, each in settings.items()},
        "tokenizer": [
            f"{type(tokenizer).__module__}.{type(tokenizer).__qualname__}",
            sorted(tokenizer.get_vocab().items()),
            tokenizer.encode(PROBE),
            [answers.stop_token_ids(tokenizer, prompt_format=each) for each in formats],
        ],
    }
    digest = blake2b(json.dumps(facts).encode(errors="surrogatepass"), digest_size=16)
    for file in (__file__, *(str(module.__file__) for module in ENCODING_CODE)):
        digest.update(Path(file).read_bytes())
    return digest.hexdigest()


def encode_split(
    samples: Sequence[Sample], tokenizer: Tokenizer, *, settings: TokenSettings, name: str
) -> TokenTable:
    """Encode all samples of a split, in several processes where there are many."""
    starts = range(0, len(samples), NUM_ROWS_A_PIECE)
    encode = partial(_encode_rows, samples, tokenizer, settings)
    with (
        _mapper(encode, num_rows=len(samples)) as run,
        show_bar(f"encoding {name}", unit="rows", stays=True) as bar,
    ):
        tables = []
        if bar is not None:
            bar.show(0, total=len(samples))
        for table in run(starts):
            tables.append(table)
            if bar is not None:
                bar.show(min(len(tables) * NUM_ROWS_A_PIECE, len(samples)), total=len(samples))
    return join_tables([*tables, _build_table([], [], [])])


@contextmanager
def _mapper(encode: Any, *, num_rows: int) -> Iterator[Any]:
    """A `map` of `encode` over the starts of pieces, in order."""
    num_processes = min(os.cpu_count() or 1, 16, num_rows // NUM_ROWS_FOR_PROCESSES + 1)
    # Forked workers have samples and tokenizer without a copy; others would need them pickled.
    if num_processes == 1 or sys.platform != "linux":
        yield partial(map, encode)
        return
    context = multiprocessing.get_context("fork")
    with context.Pool(num_processes, initializer=_remember, initargs=(encode,)) as pool:
        yield partial(pool.imap, _encode_remembered)


_remembered: Any = None


def _remember(encode: Any) -> None:
    # The parent's answer to a signal isn't the workers'; the parent ends them itself.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    global _remembered
    _remembered = encode


def _encode_remembered(start: int) -> TokenTable:
    table: TokenTable = _remembered(start)
    return table


def _encode_rows(
    samples: Sequence[Sample], tokenizer: Tokenizer, settings: TokenSettings, start: int
) -> TokenTable:
    """The table of one piece of rows, from `start`."""
    encoded: list[Encoded] = []
    rows: list[int] = []
    bad_rows: list[BadRowNote] = []
    counts: Counter[str] = Counter()
    most = settings.context_length or sys.maxsize
    for row in range(start, min(start + NUM_ROWS_A_PIECE, len(samples))):
        try:
            whole = encode_sample(samples[row], tokenizer, settings=settings)
        except BadRow as bad:
            needed = bad.needed_length if isinstance(bad, TooLong) else 0
            bad_rows.append(BadRowNote(row, bad.reason, str(bad), needed))
            continue
        fitted = [fit_context(each, context_length=most) for each in whole]
        encoded += [each for each, _ in fitted]
        rows += [row] * len(fitted)
        counts["num_truncated"] += sum(cut > 0 for _, cut in fitted)
        counts["num_cut"] += sum(cut for _, cut in fitted)
        counts["num_cut_answers"] += sum(find_needed_length(each) > most for each in whole)
    return _build_table(encoded, rows, bad_rows, **counts)


def encode_sample(
    sample: Sample, tokenizer: Tokenizer, *, settings: TokenSettings
) -> list[Encoded]:
    """Token ids of a row, whole: a conversation's may not fit into the context.

    Raises:
        BadRow: a conversation that the prompt format can't express, or an answer that doesn't fit
            and is not to be cut.
    """
    if isinstance(sample, PlainText):
        return prompts.encode_text(tokenizer, sample.text, context_length=settings.text_length)
    try:
        encoded = prompts.encode_conversation(
            tokenizer,
            sample,
            prompt_format=settings.prompt_format,
            train_on=settings.train_on,
        )
    except ValueError as error:
        # The cause is the same without file and line.
        raise BadRow(
            f"not expressible in {settings.prompt_format}", str(error.__cause__ or error)
        ) from error
    if settings.long_answers is LongAnswers.cut or settings.context_length is None:
        return encoded
    longest = max(encoded, key=find_needed_length)
    if (needed_length := find_needed_length(longest)) > settings.context_length:
        raise TooLong(
            f"{needed_length - longest.cue_length} tokens and {longest.cue_length} of the cue "
            f"before it, but data.context_length={settings.context_length}",
            needed_length,
        )
    return encoded


def find_needed_length(encoded: Encoded) -> int:
    """The context that a sample's last answer and the cue before it need."""
    return len(encoded.input_ids) - find_last_answer(encoded.is_trained) + encoded.cue_length


def _build_table(
    encoded: Sequence[Encoded],
    rows: Sequence[int],
    bad_rows: Sequence[BadRowNote],
    **counts: int,
) -> TokenTable:
    input_ids, is_trained = array("i"), array("b")
    for each in encoded:
        input_ids.extend(each.input_ids)
        is_trained.extend(each.is_trained)
    lengths = [len(each.input_ids) for each in encoded]
    return TokenTable(
        input_ids=np.array(input_ids, np.int32),
        is_trained=np.array(is_trained, np.bool_),
        offsets=np.cumsum([0, *lengths], dtype=np.int64),
        rows=np.array(rows, np.int64),
        bad_rows=tuple(bad_rows),
        **counts,
    )
