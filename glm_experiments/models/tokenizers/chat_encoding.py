"""A chat rendered by its template -> token ids, for tokenizers over SentencePiece.

transformers encodes a rendered chat as one text, in which a message could spell special tokens,
and finds the assistant's tokens with its Rust tokenizers only. Here only the template's own special
tokens count, and SentencePiece's offsets tell which tokens are the assistant's.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from transformers import BatchEncoding, PreTrainedTokenizer
from transformers.utils.chat_template_utils import render_jinja_template

from glm_experiments.models.tokenizers.chat_templates import (
    BLANK_BEFORE_ANSWERS,
    has_answer_marks,
)

Span = tuple[int, int]
"""Characters [begin, end) of a text."""
SHIELD = "\ufdd0"
"""Set into special tokens that a message spells. A noncharacter, which no text contains."""


class ChatEncoding(PreTrainedTokenizer):
    """`apply_chat_template` for a tokenizer that knows which characters a token stands for."""

    default_chat_template: str
    """Marks the assistant's text; used where a folder brings no template, or for the mask one
    without marks."""

    def encode_with_spans(self, text: str) -> tuple[list[int], list[Span]]:
        """The ids of `text` (special tokens are spelled out) and for each its characters."""
        raise NotImplementedError

    def split_message(self, text: str) -> list[Span]:
        """The parts of the text between two special tokens that are encoded one by one."""
        return [(0, len(text))]

    def apply_chat_template(  # type: ignore[override]
        self,
        conversation: Sequence[Any],
        tools: list[Any] | None = None,
        documents: list[dict[str, str]] | None = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        tokenize: bool = True,
        padding: bool | str = False,
        truncation: bool = False,
        max_length: int | None = None,
        return_tensors: str | None = None,
        return_dict: bool = True,
        return_assistant_tokens_mask: bool = False,
        tokenizer_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """As transformers' own. `return_assistant_tokens_mask` adds `assistant_masks`: 1 for every
        token that the assistant says and for the one that ends its last answer."""
        if not conversation:
            raise ValueError("the conversation is empty; give at least one message")
        if continue_final_message and (add_generation_prompt or return_assistant_tokens_mask):
            raise ValueError(
                "continue_final_message leaves the last answer open, so that it goes with neither "
                "add_generation_prompt nor return_assistant_tokens_mask; give one of them"
            )
        # Messages never become special tokens here, asked for or not.
        kwargs.pop("sanitize_control_tokens", None)
        first = conversation[0] if isinstance(conversation, list | tuple) else None
        is_batched = isinstance(first, list | tuple) or hasattr(first, "messages")
        chats = conversation if is_batched else [conversation]
        template = self.get_chat_template(chat_template, tools)
        if return_assistant_tokens_mask and not chat_template and not has_answer_marks(template):
            template = self.default_chat_template
        rendered: Any = render_jinja_template(  # its annotation says str
            conversations=[self._shield(getattr(chat, "messages", chat)) for chat in chats],
            tools=tools,
            documents=documents,
            chat_template=template,
            return_assistant_tokens_mask=return_assistant_tokens_mask or has_answer_marks(template),
            continue_final_message=continue_final_message,
            add_generation_prompt=add_generation_prompt,
            **{**self.special_tokens_map, **kwargs},
        )
        texts: list[str] = rendered[0]
        answers: list[list[Span]] = rendered[1] or [[]] * len(texts)
        if not tokenize:
            texts = [text.replace(SHIELD, "") for text in texts]
            return texts if is_batched else texts[0]
        has_blanks = BLANK_BEFORE_ANSWERS in template
        encoded = [
            self._encode_rendered(text, spoken, has_blanks=has_blanks)
            for text, spoken in zip(texts, answers, strict=True)
        ]
        out = self(
            [ids for ids, _ in encoded],
            add_special_tokens=False,
            padding=padding,
            truncation=truncation,
            max_length=max_length,
            **(tokenizer_kwargs or {}),
        )
        if return_assistant_tokens_mask:
            out["assistant_masks"] = [
                self._align([_overlaps(span, spoken) for span in spans], attention)
                for (_, spans), spoken, attention in zip(
                    encoded, answers, out["attention_mask"], strict=True
                )
            ]
        if not is_batched and return_tensors is None:
            out = BatchEncoding({name: rows[0] for name, rows in out.items()})
        out = BatchEncoding(dict(out), tensor_type=return_tensors)
        return out if return_dict else out["input_ids"]

    def _align(self, mask: list[int], attention: list[int]) -> list[int]:
        """A mask of a whole text, cut and padded as the row with this attention mask."""
        length = sum(attention)
        kept = iter(mask[-length:] if self.truncation_side == "left" else mask[:length])
        return [next(kept) if is_real else 0 for is_real in attention]

    def _shield(self, value: Any) -> Any:
        """A chat in whose messages no string spells a special token."""
        if isinstance(value, str):
            names = self._special_pattern()
            return names.sub(lambda name: f"{name[0][0]}{SHIELD}{name[0][1:]}", value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = dataclasses.asdict(value)
        elif hasattr(value, "model_dump"):  # pydantic's
            value = value.model_dump()
        if isinstance(value, Mapping):
            # As in transformers: what is None is as good as absent.
            return {key: self._shield(each) for key, each in value.items() if each is not None}
        if isinstance(value, list | tuple):
            return [self._shield(entry) for entry in value]
        return value

    def _special_pattern(self) -> re.Pattern[str]:
        names = sorted(self.added_tokens_encoder, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, names)))

    def _encode_rendered(
        self, text: str, answers: Sequence[Span], *, has_blanks: bool
    ) -> tuple[list[int], list[Span]]:
        """Ids of a rendered chat, and for each its characters. An answer that a special token ends
        is encoded apart from its question, as it is generated.

        has_blanks: before such an answer stands a blank that is no part of it.
        """
        ids: list[int] = []
        spans: list[Span] = []
        position = 0
        for name in [*self._special_pattern().finditer(text), None]:
            begin, end = name.span() if name else (len(text), len(text))
            ended = [start for start, stop in answers if position <= start < begin < stop]
            cuts = [start for start in ended if start > position]
            for start, stop in pairwise([position, *cuts, begin]):
                if has_blanks and start in ended and text[start] == " ":
                    start += 1
                part_ids, part_spans = self._encode_message(text[start:stop])
                ids += part_ids
                spans += [(first + start, last + start) for first, last in part_spans]
            if name:
                ids.append(self.added_tokens_encoder[name[0]])
                spans.append((begin, end))
            position = end
        return ids, spans

    def _encode_message(self, text: str) -> tuple[list[int], list[Span]]:
        """Ids of the text between two special tokens, and for each its characters."""
        ids: list[int] = []
        spans: list[Span] = []
        places = [place for place, character in enumerate(text) if character != SHIELD]
        places.append(len(text))
        plain = text.replace(SHIELD, "")
        for begin, end in self.split_message(plain):
            part_ids, part_spans = self.encode_with_spans(plain[begin:end])
            ids += part_ids
            spans += [(places[begin + first], places[begin + last]) for first, last in part_spans]
        return ids, spans


def _overlaps(span: Span, spoken: Sequence[Span]) -> int:
    return int(any(span[0] < end and begin < span[1] for begin, end in spoken))


def character_positions(prepared: str, origins: list[int] | None, length: int) -> dict[int, int]:
    """Byte offset in the prepared text -> character offset in the text as given."""
    positions: dict[int, int] = {}
    offset = 0
    for place, character in enumerate(prepared):
        positions[offset] = place if origins is None else origins[place]
        offset += len(character.encode())
    positions[offset] = length
    return positions
