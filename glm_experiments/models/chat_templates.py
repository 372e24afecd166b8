"""Chat templates of ChatGLM 1, 2 and 3, and how a rendered chat becomes token ids.

transformers encodes a rendered chat as one text, in which a message could spell special tokens,
and finds the assistant's tokens with its Rust tokenizers only. Here only the template's own special
tokens count, and SentencePiece's offsets tell which tokens are the assistant's.
"""

import re
from collections.abc import Sequence
from typing import Any

from transformers import BatchEncoding, PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

Span = tuple[int, int]

CHATGLM_TEMPLATE = """\
{%- set turns = messages -%}
{%- if messages[0]['role'] == 'system' -%}
{{- messages[0]['content'] + '\\n' -}}
{%- set turns = messages[1:] -%}
{%- endif -%}
{%- for message in turns -%}
{%- if message['role'] == 'user' -%}
{%- if loop.length > 2 -%}
{{- '[Round ' ~ (loop.index0 // 2) ~ ']\\n问：' + message['content'] + '\\n答：' -}}
{%- else -%}
{{- message['content'] -}}
{%- endif -%}
{%- if loop.last and add_generation_prompt -%}{{- '[gMASK]<sop>' -}}{%- endif -%}
{%- elif message['role'] == 'assistant' -%}
{%- if loop.last -%}
{{- '[gMASK]<sop>' -}}
{%- generation -%}{{- message['content'] + '<eop>' -}}{%- endgeneration -%}
{%- else -%}
{%- generation -%}{{- message['content'] -}}{%- endgeneration -%}{{- '\\n' -}}
{%- endif -%}
{%- else -%}
{{- raise_exception('ChatGLM has no role ' + message['role']) -}}
{%- endif -%}
{%- endfor -%}
"""

CHATGLM2_TEMPLATE = """\
{{- '[gMASK]sop' -}}
{%- set turns = messages -%}
{%- if messages[0]['role'] == 'system' -%}
{{- messages[0]['content'] + '\\n\\n' -}}
{%- set turns = messages[1:] -%}
{%- endif -%}
{%- for message in turns -%}
{%- if message['role'] == 'user' -%}
{{- '[Round ' ~ (loop.index0 // 2 + 1) ~ ']\\n\\n问：' + message['content'] + '\\n\\n答：' -}}
{%- elif message['role'] == 'assistant' -%}
{%- if loop.last -%}
{%- generation -%}{{- message['content'] + '</s>' -}}{%- endgeneration -%}
{%- else -%}
{%- generation -%}{{- message['content'] -}}{%- endgeneration -%}{{- '\\n\\n' -}}
{%- endif -%}
{%- else -%}
{{- raise_exception('ChatGLM2 has no role ' + message['role']) -}}
{%- endif -%}
{%- endfor -%}
"""

CHATGLM3_TEMPLATE = """\
{{- '[gMASK]sop' -}}
{%- for message in messages -%}
{{- '<|' + message['role'] + '|>' -}}
{%- set text = (message['metadata'] or '') + '\\n ' + message['content'] -%}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}{{- text -}}
{%- if loop.last -%}{{- '</s>' -}}{%- endif -%}
{%- endgeneration -%}
{%- elif message['role'] == 'system' and message['tools'] -%}
{{- text + '\\n' + message['tools'] | tojson(indent=4) -}}
{%- else -%}
{{- text -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""

GLM4_TEMPLATE = """\
{{- '[gMASK]<sop>' -}}
{%- for message in messages -%}
{{- '<|' + message['role'] + '|>' -}}
{%- set text = (message['metadata'] or '') + '\\n' + message['content'] -%}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}{{- text -}}
{%- if loop.last -%}{{- '<|user|>' -}}{%- endif -%}
{%- endgeneration -%}
{%- else -%}
{{- text -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""


def has_answer_marks(chat_template: object) -> bool:
    """Whether a template tells which of its text is the assistant's. No published one does."""
    return isinstance(chat_template, str) and "endgeneration" in chat_template


SHIELD = "\ufdd0"
"""Set into special tokens that a message spells. A noncharacter, which no text contains."""


class ChatTemplateEncoding(PreTrainedTokenizerBase):
    """`apply_chat_template` for tokenizers that know which characters a token stands for."""

    def encode_with_spans(self, text: str) -> tuple[list[int], list[Span]]:
        """The ids of `text` (special tokens are spelled out) and for each its characters."""
        raise NotImplementedError

    def split_message(self, text: str) -> list[str]:
        """Text between two special tokens -> the parts of it that are encoded one by one. They
        join to `text`, but for one blank that may be left out before a part."""
        return [text]

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
        token that the assistant says and for the one that ends its answer."""
        # Messages never become special tokens here, asked for or not.
        kwargs.pop("sanitize_control_tokens", None)
        is_batched = isinstance(conversation[0], list | tuple) or hasattr(
            conversation[0], "messages"
        )
        chats = [
            getattr(chat, "messages", chat)
            for chat in (conversation if is_batched else [conversation])
        ]
        texts, answers = render_jinja_template(
            [self._shield(chat) for chat in chats],
            tools=tools,
            documents=documents,
            chat_template=self.get_chat_template(chat_template, tools),
            return_assistant_tokens_mask=not continue_final_message,
            continue_final_message=continue_final_message,
            add_generation_prompt=add_generation_prompt,
            **{**self.special_tokens_map, **kwargs},
        )
        if not tokenize:
            plain = [text.replace(SHIELD, "") for text in texts]
            return plain if is_batched else plain[0]
        encoded = [
            self._encode_rendered(text, spans)
            for text, spans in zip(texts, answers or [[]] * len(texts), strict=True)
        ]
        out = self(
            [ids for ids, _ in encoded],
            add_special_tokens=False,
            padding=padding,
            truncation=truncation,
            max_length=max_length,
            **({"return_attention_mask": True} | (tokenizer_kwargs or {})),
        )
        if return_assistant_tokens_mask:
            out["assistant_masks"] = [
                self._place(mask, attention)
                for (_, mask), attention in zip(encoded, out["attention_mask"], strict=True)
            ]
        if not is_batched and return_tensors is None:
            out = BatchEncoding({name: rows[0] for name, rows in out.items()})
        out = BatchEncoding(dict(out), tensor_type=return_tensors)
        return out if return_dict else out["input_ids"]

    def _place(self, mask: list[int], attention: list[int]) -> list[int]:
        """A mask of a text's tokens, cut and padded as the row with this attention mask."""
        length = sum(attention)
        kept = iter(mask[-length:] if self.truncation_side == "left" else mask[:length])
        return [next(kept) if is_real else 0 for is_real in attention]

    def _shield(self, value: Any) -> Any:
        """Messages in which no string spells a special token."""
        if isinstance(value, str):
            names = self._special_pattern()
            return names.sub(lambda name: f"{name[0][0]}{SHIELD}{name[0][1:]}", value)
        if isinstance(value, dict):
            # A role's spelling matters to the template and is no text.
            return {
                key: entry if key == "role" else self._shield(entry) for key, entry in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._shield(entry) for entry in value]
        return value

    def _special_pattern(self) -> re.Pattern[str]:
        names = sorted(self.added_tokens_encoder, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, names)))

    def _encode_rendered(self, text: str, answers: Sequence[Span]) -> tuple[list[int], list[int]]:
        """Ids of a rendered chat, and for each whether the assistant says it."""
        is_answer = [False] * len(text)
        for begin, end in answers:
            is_answer[begin:end] = [True] * (end - begin)
        ids: list[int] = []
        mask: list[int] = []
        position = 0
        for name in [*self._special_pattern().finditer(text), None]:
            begin = name.start() if name else len(text)
            cut = next((first for first, end in answers if position < first < begin < end), begin)
            for part in (slice(position, cut), slice(cut, begin)):
                part_ids, part_mask = self._encode_message(text[part], is_answer[part])
                ids += part_ids
                mask += part_mask
            if name:
                ids.append(self.added_tokens_encoder[name[0]])
                mask.append(int(is_answer[begin]))
                position = name.end()
        return ids, mask

    def _encode_message(self, text: str, is_answer: Sequence[bool]) -> tuple[list[int], list[int]]:
        """Ids of the text between two special tokens, and for each whether it is an answer's."""
        ids: list[int] = []
        mask: list[int] = []
        kept = [place for place, character in enumerate(text) if character != SHIELD]
        plain = "".join(text[place] for place in kept)
        offset = 0
        for part in self.split_message(plain):
            offset = plain.index(part, offset)
            part_ids, spans = self.encode_with_spans(part)
            ids += part_ids
            mask += [
                int(any(is_answer[place] for place in kept[offset + begin : offset + end]))
                for begin, end in spans
            ]
            offset += len(part)
        return ids, mask
