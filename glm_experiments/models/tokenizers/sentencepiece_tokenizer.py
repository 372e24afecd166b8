"""What the tokenizers of ChatGLM 1, 2 and 3 have in common: a SentencePiece file, special tokens
that text cannot spell, decoding without broken characters, chat templates with exact segments.

A subclass says which special tokens exist and how text is prepared; prompts are not known here.
"""

import codecs
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import sentencepiece
from sentencepiece import sentencepiece_pb2
from transformers import AddedToken

from glm_experiments.models.tokenizers.chat_encoding import (
    ChatEncoding,
    Span,
    character_positions,
)
from glm_experiments.models.tokenizers.sentencepiece_files import load_sentencepiece


class SentencePieceTokenizer(ChatEncoding):
    """A GLM tokenizer over one SentencePiece model file.

    `split_special_tokens=True` encodes text as text, whatever it spells: no special token can come
    out of it. `False` lets the text spell special tokens. Which of them is the default is the
    subclass's; it can be given to the constructor and to every call.
    """

    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012 - the library's name
    padding_side = "left"
    generation_name: str
    """How messages call this tokenizer."""
    token_roles: ClassVar[Mapping[str, str]]
    """`eos_token` and its kin as published, for those that neither caller nor file names."""
    code_module: ClassVar[str]
    """The module of this class where an exported folder brings its own code."""

    def __init__(self, vocab_file: str, **kwargs: Any) -> None:
        kwargs |= {role: name for role, name in self.token_roles.items() if not kwargs.get(role)}
        kwargs["unk_token"] = "<unk>"
        self.vocab_file = str(vocab_file)
        self.sp_model = load_sentencepiece(vocab_file, wanted_by=self.generation_name)
        self._patterns: dict[bool, re.Pattern[str] | None] = {}
        self._check_generation()
        own = self._special_ids()
        given = kwargs.pop("added_tokens_decoder", {})
        # A published tokenizer_config.json may list some of them too; the model file decides.
        self._added_tokens_decoder = {
            index: token for index, token in given.items() if str(token) not in own
        }
        self._added_tokens_decoder |= {
            index: AddedToken(name, special=True, normalized=False) for name, index in own.items()
        }
        given_names = map(str, kwargs.get("extra_special_tokens") or ())
        kwargs["extra_special_tokens"] = list(dict.fromkeys([*given_names, *own]))
        # With a config of type glm, AutoTokenizer asks for the class that a folder names only if
        # the folder has this entry; else it takes a converted tokenizer without [gMASK] sop.
        kwargs["auto_map"] = {"AutoTokenizer": [f"{self.code_module}.{type(self).__name__}", None]}
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]

    def _check_generation(self) -> None:
        """Raise ValueError if the model file belongs to another generation."""
        raise NotImplementedError

    def _special_ids(self) -> dict[str, int]:
        """Every special token with its id, derived from the model file."""
        raise NotImplementedError

    def _prepare(self, text: str) -> tuple[str, list[int] | None]:
        """The text as SentencePiece gets it, and the origin of each of its characters
        (None: unchanged)."""
        return text, None

    def _processor(self, *, is_plain: bool) -> sentencepiece.SentencePieceProcessor:
        """The SentencePiece model; `is_plain`: one that knows no special token."""
        del is_plain
        return self.sp_model

    @property
    def id_offset(self) -> int:
        """The id of SentencePiece's piece 0."""
        return 0

    # Encoding

    def tokenize(
        self, text: str, pair: str | None = None, add_special_tokens: bool = False, **kwargs: Any
    ) -> list[str]:
        """The pieces of `text`."""
        is_plain = bool(kwargs.pop("split_special_tokens", self.split_special_tokens))
        processor = self._processor(is_plain=is_plain)
        pieces: list[str] = []
        for part, is_added in self._parts(text, is_plain=is_plain):
            if is_added:
                pieces.append(part)
            else:
                ids = processor.encode(self._prepare(part)[0])
                pieces.extend(self.sp_model.id_to_piece(index) for index in ids)
        return pieces

    def encode_with_spans(self, text: str) -> tuple[list[int], list[Span]]:
        """The ids of `text` (special tokens are spelled out) and for each the characters
        [begin, end) that it stands for. The bytes of one character share its span."""
        processor = self._processor(is_plain=True)
        prepared, origins = self._prepare(text)
        message = sentencepiece_pb2.SentencePieceText.FromString(
            processor.encode(prepared, out_type="serialized_proto")
        )
        to_character = character_positions(prepared, origins, len(text))
        ids = [piece.id + self.id_offset for piece in message.pieces]
        spans: list[Span] = []
        next_end = message.pieces[-1].end if message.pieces else 0
        for piece in reversed(message.pieces):
            next_end = piece.end if piece.end > piece.begin else next_end
            spans.append((to_character[piece.begin], to_character[next_end]))
        return ids, spans[::-1]

    def _parts(self, text: str, *, is_plain: bool) -> list[tuple[str, bool]]:
        """`text` cut at the added tokens that it may spell: (part, is an added token)."""
        if is_plain not in self._patterns:
            names = sorted(
                (
                    token.content
                    for token in self._added_tokens_decoder.values()
                    if not (is_plain and token.special) and self._is_cut_out(token.content)
                ),
                key=len,
                reverse=True,
            )
            joined = "|".join(map(self._spelling, names))
            self._patterns[is_plain] = re.compile(f"({joined})") if names else None
        pattern = self._patterns[is_plain]
        if pattern is None:
            return [(text, False)] if text else []
        parts = pattern.split(text)
        return [(part, bool(place % 2)) for place, part in enumerate(parts) if part]

    def _is_cut_out(self, token: str) -> bool:
        """Whether an added token has to be found before SentencePiece sees the text."""
        del token
        return True

    def _spelling(self, token: str) -> str:
        """The regular expression for an added token in a text; without a group."""
        return re.escape(token)

    def _update_trie(self, unique_no_split_tokens: list[str] | None = None) -> None:
        super()._update_trie(unique_no_split_tokens)
        self._patterns = {}

    # Vocabulary

    @property
    def vocab_size(self) -> int:
        """All ids that the published tokenizer knows, special tokens included."""
        return self.id_offset + int(self.sp_model.get_piece_size())

    def get_vocab(self) -> dict[str, int]:
        """Every token with its id."""
        vocabulary = {
            self.sp_model.id_to_piece(index): index + self.id_offset
            for index in range(self.sp_model.get_piece_size())
        }
        return vocabulary | self._added_tokens_encoder

    def added_token_id(self, token: str) -> int:
        """The id of an added token; the library's own properties copy and sort all of them."""
        return int(self._added_tokens_encoder[token])

    def _convert_token_to_id(self, token: str) -> int:
        return int(self.sp_model.piece_to_id(token)) + self.id_offset

    def _convert_id_to_token(self, index: int) -> str:
        piece = index - self.id_offset
        if 0 <= piece < self.sp_model.get_piece_size():
            return str(self.sp_model.id_to_piece(piece))
        # A model's padded vocabulary has rows beyond the tokenizer's: they stand for no text.
        return ""

    # Decoding

    def _decode(
        self,
        token_ids: int | list[int],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        **kwargs: Any,
    ) -> str:
        """Text of `token_ids`. Bytes at the end that are only the beginning of a character are
        left out, so that text which grows token by token never shows a broken character."""
        del clean_up_tokenization_spaces, kwargs
        ids = [token_ids] if isinstance(token_ids, int) else [int(index) for index in token_ids]
        parts: list[str] = []
        run: list[int] = []
        for index in ids:
            if index in self._added_tokens_decoder:
                parts.append(self._decode_pieces(run))
                run = []
                token = self._added_tokens_decoder[index]
                if not (skip_special_tokens and token.special):
                    parts.append(token.content)
            elif 0 <= index - self.id_offset < self.sp_model.get_piece_size():
                run.append(index - self.id_offset)
        parts.append(self._decode_pieces(self._drop_unfinished_character(run)))
        return "".join(parts)

    def _decode_pieces(self, pieces: list[int]) -> str:
        return str(self.sp_model.decode(pieces)) if pieces else ""

    def _drop_unfinished_character(self, pieces: list[int]) -> list[int]:
        begin = len(pieces)
        while begin and self.sp_model.is_byte(pieces[begin - 1]):
            begin -= 1
        # A byte's piece is spelled <0xE4>.
        ending = bytes(
            int(self.sp_model.id_to_piece(piece)[3:5], base=16) for piece in pieces[begin:]
        )
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        decoder.decode(ending)
        num_pending = len(decoder.getstate()[0])
        return pieces[: len(pieces) - num_pending]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """The text of pieces, as `decode` gives it."""
        return self._decode(self.convert_tokens_to_ids(tokens))

    # Files

    def save_vocabulary(
        self, save_directory: str, filename_prefix: str | None = None
    ) -> tuple[str, ...]:
        """Write the SentencePiece model into `save_directory`."""
        prefix = f"{filename_prefix}-" if filename_prefix else ""
        file = Path(save_directory) / (prefix + self.vocab_files_names["vocab_file"])
        file.write_bytes(self.sp_model.serialized_model_proto())
        return (str(file),)

    def __getstate__(self) -> dict[str, Any]:
        # SentencePiece's processor pickles itself; compiled patterns are rebuilt.
        return self.__dict__ | {"_patterns": {}}
