"""Trains a small SentencePiece tokenizer with the special tokens of a published GLM.

The same texts and sizes always give the same file: one thread, no sampling. Knows no data set.
"""

import io
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

Generation = Literal["chatglm3", "chatglm"]

MODEL_FILES: dict[Generation, str] = {"chatglm3": "tokenizer.model", "chatglm": "ice_text.model"}
CHATGLM_BLANKS = tuple(f"<|blank_{length}|>" for length in range(2, 81))
CHATGLM_FIRST = ("<n>", "<|tab|>", *CHATGLM_BLANKS)
CHATGLM_LAST = (
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "<unused_0>",
    "<sop>",
    "<eop>",
    "<ENC>",
    "<dBLOCK>",
)
"""Version 1's special tokens stand in the model file itself: ids 4 on, and after the pieces."""
MIN_CHARACTER_COUNT = 20
"""Characters that the texts hold fewer times get no piece of their own: bytes spell them."""
DELIMITER = "\t"
PRINTABLE_ASCII = "".join(map(chr, range(0x21, 0x7F)))


def build_tokenizer_files(
    texts: Iterable[str], *, vocabulary_size: int, folder: Path, generation: Generation
) -> Path:
    """Train on `texts` and write the model file into `folder`; returns its path.

    `vocabulary_size` counts the pieces of the SentencePiece training: for `chatglm3`, whose special
    tokens are no pieces but get the ids behind them, the size of the file; for `chatglm` the id of
    `[MASK]`, behind which seven more special tokens follow in the file.

    Byte-pair merges, digits one by one, bytes for what has no piece, text unchanged
    (no normalisation). No piece spans two characters outside ASCII, so that a Chinese question in a
    new wording is spelled with pieces that were seen.

    Raises ValueError if `vocabulary_size` is too small for the characters or too large for the
    texts.
    """
    prepared, characters = _prepare(list(texts))
    special = {"chatglm3": (), "chatglm": CHATGLM_FIRST}[generation]
    written = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(prepared),
            model_writer=written,
            model_type="bpe",
            vocab_size=vocabulary_size,
            character_coverage=1.0,
            required_chars="".join(characters),
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            pretokenization_delimiter=DELIMITER,
            user_defined_symbols=list(special),
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=3 if generation == "chatglm" else -1,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ValueError(
            f"no tokenizer of {vocabulary_size} pieces can be trained on these texts "
            f"({len(characters)} characters): {error}"
        ) from error
    model = sentencepiece_model_pb2.ModelProto.FromString(written.getvalue())
    if generation == "chatglm":
        for token in CHATGLM_LAST:
            model.pieces.add(
                piece=token,
                score=0.0,
                type=sentencepiece_model_pb2.ModelProto.SentencePiece.USER_DEFINED,
            )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MODEL_FILES[generation]
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def _prepare(texts: list[str]) -> tuple[list[str], list[str]]:
    """Texts for the training, delimited around non-ASCII characters, and the characters kept."""
    counts = Counter(character for text in texts for character in text)
    kept = {
        character
        for character, count in counts.items()
        if count >= MIN_CHARACTER_COUNT and not character.isspace()
    } | set(PRINTABLE_ASCII)
    prepared = [
        "".join(
            character
            if character.isascii()
            else f"{DELIMITER}{character}{DELIMITER}"
            if character in kept
            else DELIMITER
            for character in text.replace(DELIMITER, " ").replace("\n", " ")
        )
        for text in texts
    ]
    # SentencePiece before 0.2.3 aborts the process on a required character that never occurs.
    prepared.append(DELIMITER.join(sorted(kept - counts.keys())))
    return prepared, sorted(kept)
