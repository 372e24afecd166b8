"""Ids of text that stays text, whatever it spells, and ids of special tokens by their names."""

from functools import lru_cache

from glm_experiments.tokenizer_protocol import Tokenizer


def encode_plain(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of a text alone, none of them special."""
    return tokenizer.encode(
        text, add_special_tokens=False, split_special_tokens=True, verbose=False
    )


@lru_cache(maxsize=64)
def encode_constant(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    """As `encode_plain`, of a text that comes again and again."""
    return tuple(encode_plain(tokenizer, text))


@lru_cache(maxsize=8)
def start_ids(tokenizer: Tokenizer) -> tuple[int, ...]:
    """What the tokenizer puts around a text: [gMASK] and <sop>."""
    return tuple(tokenizer.encode(""))


@lru_cache(maxsize=256)
def token_id(tokenizer: Tokenizer, name: str) -> int:
    """The id of a special token.

    Raises:
        ValueError: the tokenizer lacks it.
    """
    index = tokenizer.convert_tokens_to_ids(name)
    if index is None or index == tokenizer.unk_token_id:
        raise ValueError(
            f"the tokenizer ({len(tokenizer)} tokens) lacks {name}, which the prompt format needs; "
            "type the format of the model's generation, e.g. data.prompt_format=chatglm2"
        )
    assert isinstance(index, int)
    return index


def end_id(tokenizer: Tokenizer) -> int:
    """The id of the end of text.

    Raises:
        ValueError: the tokenizer names none.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError(
            f"the tokenizer ({len(tokenizer)} tokens) names no end of text (eos_token), so no "
            "answer could end; set it in its tokenizer_config.json"
        )
    return tokenizer.eos_token_id
