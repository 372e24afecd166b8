"""An answer's token ids and back to text, and the tokens at which it is over."""

from collections.abc import Sequence

from glm_experiments.data.prompt_formats import OBSERVATION, USER, TextForm, find_form
from glm_experiments.data.token_ids import encode_constant, encode_plain, end_id, token_id
from glm_experiments.tokenizer_protocol import Tokenizer


def encode_answer(tokenizer: Tokenizer, text: str, *, prompt_format: str) -> list[int]:
    """Ids of an answer, with the token that ends it."""
    form = find_form(prompt_format)
    ids = encode_plain(tokenizer, text)
    if isinstance(form, TextForm):
        return [*ids, end_id(tokenizer)]
    end = end_id(tokenizer) if form.end is None else token_id(tokenizer, form.end)
    return [*encode_constant(tokenizer, "\n"), *ids, end]


def stop_token_ids(tokenizer: Tokenizer, *, prompt_format: str) -> list[int]:
    """Ids at which a generated answer is over."""
    if isinstance(find_form(prompt_format), TextForm):
        return [end_id(tokenizer)]
    roles = [token_id(tokenizer, name) for name in (USER, OBSERVATION)]
    return list(dict.fromkeys([end_id(tokenizer), *roles]))


def decode_answer(tokenizer: Tokenizer, ids: Sequence[int], *, prompt_format: str) -> str:
    """Text of a generated answer up to its first stop token, without blanks around it.

    An unfinished character at the end is left out, so that text can be shown while it grows.
    """
    stops = stop_token_ids(tokenizer, prompt_format=prompt_format)
    end = next((place for place, index in enumerate(ids) if index in stops), len(ids))
    return str(tokenizer.decode(list(ids[:end]), skip_special_tokens=True)).rstrip("\ufffd").strip()
