"""The tokenizers of ChatGLM2-6B and ChatGLM3-6B: `tokenizer.model` and special tokens behind it.

Which ids the special tokens have follows from the size of the model file. Text never spells a
special token unless `split_special_tokens=False` is asked for.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from glm_experiments.models.tokenizers.chat_encoding import Span
from glm_experiments.models.tokenizers.chat_templates import CHATGLM2_TEMPLATE, CHATGLM3_TEMPLATE
from glm_experiments.models.tokenizers.sentencepiece_tokenizer import SentencePieceTokenizer


class ChatGLM2Tokenizer(SentencePieceTokenizer):
    """Tokenizer of ChatGLM2-6B: `[gMASK] sop` goes before every text."""

    vocab_files_names = {"vocab_file": "tokenizer.model"}  # noqa: RUF012 - the library's name
    code_module = "tokenization_chatglm3"
    generation_name = "ChatGLM2"
    # Padding is the unknown token, id 0.
    token_roles: ClassVar[Mapping[str, str]] = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<unk>",
    }
    special_names: tuple[str, ...] = ("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop")
    default_chat_template = CHATGLM2_TEMPLATE

    def __init__(self, vocab_file: str | None = None, **kwargs: Any) -> None:
        if kwargs.get("split_special_tokens") is None:
            kwargs["split_special_tokens"] = True
        if str(kwargs.get("bos_token")) == "[gMASK]":
            kwargs["bos_token"] = None  # of an export, for others (see plain_tokenizer)
        if not kwargs.get("chat_template"):
            kwargs["chat_template"] = self.default_chat_template
        super().__init__(vocab_file=vocab_file, **kwargs)  # type: ignore[arg-type]

    def _check_generation(self) -> None:
        unknown = self.sp_model.unk_id()
        if self.sp_model.piece_to_id("[gMASK]") != unknown:
            raise ValueError(
                f"{self.vocab_file} holds [gMASK] as a piece, so it is the vocabulary of ChatGLM "
                f"version 1, not of {self.generation_name}; rename it ice_text.model, as published"
            )
        if self.sp_model.eos_id() < 0:
            raise ValueError(
                f"{self.vocab_file} has no end-of-text piece </s>, so it is not the vocabulary of "
                f"{self.generation_name}"
            )

    def _special_ids(self) -> dict[str, int]:
        size = int(self.sp_model.get_piece_size())
        return {name: size + place for place, name in enumerate(self.special_names)}

    def _spelling(self, token: str) -> str:
        # No part of a word: these two names could be.
        spellings = {"sop": r"(?<=\[gMASK\])sop|\Asop\Z", "eop": r"(?<!\w)eop(?!\w)"}
        return spellings.get(token) or super()._spelling(token)

    @property
    def vocab_size(self) -> int:
        """Pieces and special tokens."""
        return int(self.sp_model.get_piece_size()) + len(self.special_names)

    @property
    def gmask_token_id(self) -> int:
        """Id of `[gMASK]`."""
        return self.added_token_id("[gMASK]")

    @property
    def sop_token_id(self) -> int:
        """Id of `sop`, the start of the text to be written."""
        return self.added_token_id("sop")

    def prefix_token_ids(self) -> list[int]:
        """`[gMASK] sop`, which stand before every text."""
        return [self.gmask_token_id, self.sop_token_id]

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """`[gMASK] sop` and the first text; a second text is followed by the end of text."""
        ids = [*self.prefix_token_ids(), *token_ids_0]
        return ids if token_ids_1 is None else [*ids, *token_ids_1, self.eos_token_id]

    def get_special_tokens_mask(
        self,
        token_ids_0: list[int],
        token_ids_1: list[int] | None = None,
        already_has_special_tokens: bool = False,
    ) -> list[int]:
        """1 for every special token, 0 for every token of the texts."""
        if already_has_special_tokens:
            return super().get_special_tokens_mask(token_ids_0, None, True)
        ending = [] if token_ids_1 is None else [0] * len(token_ids_1) + [1]
        return [1, 1] + [0] * len(token_ids_0) + ending

    def build_prompt(self, query: str, history: Sequence[tuple[str, str]] | None = None) -> str:
        """ChatGLM2's text for a question after `history`, pairs of question and answer."""
        rounds = [
            f"[Round {number}]\n\n问：{question}\n\n答：{answer}\n\n"
            for number, (question, answer) in enumerate(history or (), start=1)
        ]
        return f"{''.join(rounds)}[Round {len(rounds) + 1}]\n\n问：{query}\n\n答："


class ChatGLM3Tokenizer(ChatGLM2Tokenizer):
    """Tokenizer of ChatGLM3-6B: version 2's with a token for each role."""

    generation_name = "ChatGLM3"
    special_names = (
        *ChatGLM2Tokenizer.special_names,
        "<|system|>",
        "<|user|>",
        "<|assistant|>",
        "<|observation|>",
    )
    default_chat_template = CHATGLM3_TEMPLATE

    def split_message(self, text: str) -> list[Span]:
        """The line with the metadata, and the text behind a blank."""
        newline = text.find("\n") + 1
        begin = newline + 1 if text[newline : newline + 1] == " " else newline
        return [(0, newline), (begin, len(text))] if newline else [(0, len(text))]

    def build_single_message(self, role: str, metadata: str, message: str) -> list[int]:
        """Ids of one message: the role's token, the metadata's line, the text."""
        token = f"<|{role}|>"
        if token not in self.special_names:
            raise ValueError(
                f"the role {role!r} is unknown to {self.generation_name}; "
                "use system, user, assistant or observation"
            )
        return [
            self.added_token_id(token),
            *self.encode_with_spans(f"{metadata}\n")[0],
            *self.encode_with_spans(message)[0],
        ]

    def build_chat_input(
        self,
        query: str,
        history: Sequence[Mapping[str, Any]] | None = None,
        role: str = "user",
    ) -> list[int]:
        """Ids of a chat up to `<|assistant|>`, after which the answer begins.

        `history`: messages with `role` and `content`; `metadata` is optional, and so are a system
        message's `tools`, which are written behind its text as indented JSON.
        """
        ids = self.prefix_token_ids()
        for message in history or ():
            content = str(message["content"])
            if message["role"] == "system" and "tools" in message:
                content += "\n" + json.dumps(message["tools"], indent=4, ensure_ascii=False)
            metadata = str(message.get("metadata", ""))
            ids += self.build_single_message(str(message["role"]), metadata, content)
        ids += self.build_single_message(role, "", query)
        return [*ids, self.added_token_id("<|assistant|>")]
