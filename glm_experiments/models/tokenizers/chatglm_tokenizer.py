"""The tokenizer of ChatGLM-6B, version 1: `ice_text.model`, whose pieces hold the special tokens.

Ids of text are shifted by `num_image_tokens`: 20000 in the first published files, 0 today.
"""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from glm_experiments.models.tokenizers.chat_templates import CHATGLM_TEMPLATE
from glm_experiments.models.tokenizers.sentencepiece_tokenizer import SentencePieceTokenizer

NEWLINE, TAB = "<n>", "<|tab|>"
LONGEST_BLANK = 80
REQUIRED = ("[MASK]", "[gMASK]", "<sop>", "<eop>")


def _blank(length: int) -> str:
    return f"<|blank_{length}|>"


WHITESPACE = {NEWLINE: "\n", TAB: "\t"} | {
    _blank(length): " " * length for length in range(2, LONGEST_BLANK + 1)
}
WRITTEN_WHITESPACE = re.compile(r"<n>|<\|tab\|>|<\|blank_\d+\|>")


class ChatGLMTokenizer(SentencePieceTokenizer):
    """Tokenizer of ChatGLM-6B: every text is followed by `[gMASK] <sop>`.

    As published, text may spell special tokens (`[gMASK]`, `<sop>`); `split_special_tokens=True`
    takes them as text.
    """

    vocab_files_names = {"vocab_file": "ice_text.model"}  # noqa: RUF012 - the library's name
    code_module = "tokenization_chatglm"
    generation_name = "ChatGLM version 1"
    token_roles: ClassVar[Mapping[str, str]] = {
        "bos_token": "<sop>",
        "eos_token": "<eop>",
        "pad_token": "<pad>",
        "mask_token": "[MASK]",
    }
    default_chat_template = CHATGLM_TEMPLATE

    def __init__(
        self, vocab_file: str | None = None, num_image_tokens: int = 0, **kwargs: Any
    ) -> None:
        if num_image_tokens < 0:
            raise ValueError(
                f"num_image_tokens is {num_image_tokens}; it is 0, or 20000 for the first release"
            )
        self.num_image_tokens = num_image_tokens
        self._plain_processor: sentencepiece.SentencePieceProcessor | None = None
        if str(kwargs.get("eos_token")) == "</s>":
            kwargs["eos_token"] = None  # in the first release's file, whose code ends with <eop>
        # Published under names of their own; here they are extra special tokens.
        for name in ("gmask_token", "end_token", "padding_token", "model_specific_special_tokens"):
            kwargs.pop(name, None)
        if not kwargs.get("chat_template"):
            kwargs["chat_template"] = self.default_chat_template
        super().__init__(
            vocab_file=vocab_file,  # type: ignore[arg-type]
            num_image_tokens=num_image_tokens,
            **kwargs,
        )

    def _check_generation(self) -> None:
        unknown = self.sp_model.unk_id()
        missing = [name for name in REQUIRED if self.sp_model.piece_to_id(name) == unknown]
        if missing:
            raise ValueError(
                f"{self.vocab_file} holds no piece {', '.join(missing)}, so it is not the "
                "vocabulary of ChatGLM version 1 (ice_text.model); a tokenizer.model belongs to "
                "ChatGLM2 or ChatGLM3: load its folder with glm_experiments.models.load_tokenizer"
            )

    def _special_ids(self) -> dict[str, int]:
        special = [*self._user_defined(), "<unk>", "<s>", "</s>", "<pad>"]
        unknown = self.sp_model.unk_id()
        ids = {name: int(self.sp_model.piece_to_id(name)) for name in special}
        return {
            name: index + self.num_image_tokens
            for name, index in sorted(ids.items(), key=lambda item: item[1])
            if index != unknown or name == "<unk>"
        }

    def _user_defined(self) -> list[str]:
        """Special tokens that SentencePiece itself finds in a text."""
        model = sentencepiece_model_pb2.ModelProto.FromString(
            self.sp_model.serialized_model_proto()
        )
        defined = sentencepiece_model_pb2.ModelProto.SentencePiece.USER_DEFINED
        return [
            piece.piece
            for piece in model.pieces
            if piece.type == defined and not WRITTEN_WHITESPACE.fullmatch(piece.piece)
        ]

    @property
    def id_offset(self) -> int:
        """The id of SentencePiece's piece 0: image tokens come first."""
        return self.num_image_tokens

    def _processor(self, *, is_plain: bool) -> sentencepiece.SentencePieceProcessor:
        if not is_plain:
            return self.sp_model
        if self._plain_processor is None:
            model = sentencepiece_model_pb2.ModelProto.FromString(
                self.sp_model.serialized_model_proto()
            )
            special = set(self._user_defined())
            for piece in model.pieces:
                if piece.piece in special:
                    piece.type = sentencepiece_model_pb2.ModelProto.SentencePiece.UNUSED
            self._plain_processor = sentencepiece.SentencePieceProcessor()
            self._plain_processor.LoadFromSerializedProto(model.SerializeToString())
        return self._plain_processor

    def _prepare(self, text: str) -> tuple[str, list[int] | None]:
        """Newlines, tabs and runs of blanks have pieces of their own."""
        prepared: list[str] = []
        origins: list[int] = []
        position = 0
        for match in re.finditer(rf"\n|\t| {{2,{LONGEST_BLANK}}}", text):
            prepared.append(text[position : match.start()])
            origins.extend(range(position, match.start()))
            found = match.group()
            piece = {"\n": NEWLINE, "\t": TAB}.get(found) or _blank(len(found))
            prepared.append(piece)
            origins.extend([match.start()] * len(piece))
            position = match.end()
        prepared.append(text[position:])
        origins.extend(range(position, len(text)))
        return "".join(prepared), origins

    def _is_cut_out(self, token: str) -> bool:
        # SentencePiece finds its own tokens, with the blank that it puts before a text.
        return bool(self.sp_model.piece_to_id(token) == self.sp_model.unk_id()) and (
            token != "<unk>"
        )

    def get_vocab(self) -> dict[str, int]:
        """Every token with its id, image tokens included."""
        images = {f"<image_{index}>": index for index in range(self.num_image_tokens)}
        return images | super().get_vocab()

    def _convert_id_to_token(self, index: int) -> str:
        if 0 <= index < self.num_image_tokens:
            return f"<image_{index}>"
        return super()._convert_id_to_token(index)

    def _convert_token_to_id(self, token: str) -> int:
        image = re.fullmatch(r"<image_(\d+)>", token)
        if image and int(image[1]) < self.num_image_tokens:
            return int(image[1])
        return super()._convert_token_to_id(token)

    def _decode_pieces(self, pieces: list[int]) -> str:
        text = super()._decode_pieces(pieces)
        return WRITTEN_WHITESPACE.sub(
            lambda match: WHITESPACE.get(match.group(), match.group()), text
        )

    @property
    def gmask_token_id(self) -> int:
        """Id of `[gMASK]`, the place of an answer at the end."""
        return self.added_token_id("[gMASK]")

    @property
    def sop_token_id(self) -> int:
        """Id of `<sop>`, the start of the text to be written."""
        return self.added_token_id("<sop>")

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """The first text and `[gMASK] <sop>`; a second text is followed by `<eop>`.

        A text that spells both behind a context, such as a rendered chat, gets no others.
        """
        ids = [*token_ids_0, *self._missing_ending(token_ids_0)]
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
        return [0] * len(token_ids_0) + [1] * len(self._missing_ending(token_ids_0)) + ending

    def _missing_ending(self, token_ids: list[int]) -> list[int]:
        ending = (self.gmask_token_id, self.sop_token_id)
        for place, pair in enumerate(pairwise(token_ids)):
            if pair == ending and self.decode(token_ids[:place]):
                return []
        return list(ending)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_plain_processor": None}
