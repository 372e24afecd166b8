"""The tokenizer of GLM-4 as published: `tokenizer.model` with tiktoken's ranks -> a fast tokenizer.

Saved again it is transformers' own file (`tokenizer.json`), like the published `-hf` models.
"""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import processors
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

from glm_experiments.models.tokenizers.chat_templates import GLM4_TEMPLATE, has_answer_marks

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "<sop>",
    "<eop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
)
"""In the order of their ids, which follow the ranks."""


class RankConverter(TikTokenConverter):
    """transformers' converter, with the file read here: it would need tiktoken just for that."""

    @staticmethod
    def load_tiktoken_bpe(tiktoken_url: str) -> dict[bytes, int]:
        return read_ranks(Path(tiktoken_url))


def load_glm4_tokenizer(folder: Path, settings: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    """Build the tokenizer from `tokenizer.model` in `folder`; `settings`: tokenizer_config.json.

    Every text gets `[gMASK] <sop>` before it; a second text follows, and the end of text. A chat
    template that does not mark the assistant's text, as the published one, is replaced by ours.

    Raises:
        ValueError: a broken file, or special tokens that settings and file number differently.
    """
    file = folder / "tokenizer.model"
    num_ranks = len(read_ranks(file))
    names = _name_special_tokens(settings, file=file, num_ranks=num_ranks)
    converter = RankConverter(  # type: ignore[no-untyped-call]
        vocab_file=str(file), extra_special_tokens=names
    )
    tokenizer = converter.converted()
    ids = {name: num_ranks + place for place, name in enumerate(names)}
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[gMASK] <sop> $A",
        pair="[gMASK] <sop> $A $B <|endoftext|>",
        special_tokens=[(name, ids[name]) for name in ("[gMASK]", "<sop>", "<|endoftext|>")],
    )
    template = settings.get("chat_template")
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=names,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
        chat_template=template if has_answer_marks(template) else GLM4_TEMPLATE,
        model_max_length=settings.get("model_max_length"),
    )


def is_rank_file(file: Path) -> bool:
    """Whether a file begins with a base64 token and its rank."""
    with file.open("rb") as stream:
        try:
            _read_rank(stream.readline())
        except ValueError:
            return False
    return True


def read_ranks(file: Path) -> dict[bytes, int]:
    """tiktoken's file: one token a line, base64 and rank; the rank is the id.

    Raises:
        ValueError: naming file and line.
    """
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        try:
            token, rank = _read_rank(line)
        except ValueError as error:
            raise ValueError(
                f"{file}, line {number}: no base64 token and rank; download the file again"
            ) from error
        if rank != len(ranks):
            raise ValueError(
                f"{file}, line {number}: rank {rank} where {len(ranks)} is due; download it again"
            )
        ranks[token] = rank
    return ranks


def _read_rank(line: bytes) -> tuple[bytes, int]:
    token, rank = line.split()
    try:
        return base64.b64decode(token, validate=True), int(rank)
    except binascii.Error as error:
        raise ValueError(str(error)) from error


def _name_special_tokens(settings: Mapping[str, Any], *, file: Path, num_ranks: int) -> list[str]:
    """Names in the order of their ids: the settings' own, else the published ones."""
    listed = {
        int(index): str(token["content"] if isinstance(token, Mapping) else token)
        for index, token in (settings.get("added_tokens_decoder") or {}).items()
    }
    if not listed:
        return list(SPECIAL_TOKENS)
    if sorted(listed) != list(range(num_ranks, num_ranks + len(listed))):
        raise ValueError(
            f"{file} has {num_ranks} tokens, but the special tokens of tokenizer_config.json have "
            f"the ids {min(listed)} to {max(listed)}; download both files again from one revision"
        )
    return [listed[index] for index in sorted(listed)]
