"""A SentencePiece model from its file; what else lies there is said by what it is."""

import re
from pathlib import Path

import sentencepiece


def load_sentencepiece(
    file: str | Path | None, *, wanted_by: str
) -> sentencepiece.SentencePieceProcessor:
    """Read a SentencePiece model; ValueError if there is none or the file is something else."""
    if file is None or not Path(file).is_file():
        raise ValueError(
            f"the tokenizer of {wanted_by} needs its SentencePiece model, but there is "
            f"{f'no file {file}' if file else 'none in the folder'}; copy it from the published "
            "model or name another folder in model.path"
        )
    content = Path(file).read_bytes()
    processor = sentencepiece.SentencePieceProcessor()
    try:
        is_loaded = bool(content) and processor.LoadFromSerializedProto(content)
    except (RuntimeError, OSError):
        is_loaded = False
    if not is_loaded or not processor.get_piece_size():
        raise ValueError(
            f"{file} is no SentencePiece model, which the tokenizer of {wanted_by} needs"
            + _describe_other_file(content)
        )
    return processor


def _describe_other_file(content: bytes) -> str:
    if content.startswith(b"version https://git-lfs"):
        return ": it is a Git LFS pointer; fetch the file itself with `git lfs pull`"
    if re.match(rb"[A-Za-z0-9+/]+=* \d+\s", content):
        return ": it holds tiktoken ranks, as GLM-4's tokenizer does"
    if not content:
        return ": it is empty; download it again"
    return "; download it again"
