"""What a run uses of a tokenizer, whichever generation's or library's it is.

Knows no tokenizer's module, so that whoever is handed one can say so without importing torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Tokenizer(Protocol):
    """Text to token ids and back. Return types are as wide as transformers' own."""

    @property
    def eos_token_id(self) -> int | None:
        """The end of text; None: the tokenizer names none."""

    @property
    def pad_token_id(self) -> int:
        """What fills up a row; loading sees to it that there is one."""

    @property
    def unk_token_id(self) -> int | None:
        """What stands for a token that is not in the vocabulary; None: nothing does."""

    def __len__(self) -> int:
        """The number of tokens, special ones included."""

    def __hash__(self) -> int:
        """Ids of what is encoded again and again are kept by tokenizer."""

    def get_vocab(self) -> dict[str, int]:
        """Every token with its id."""

    def encode(
        self,
        text: str,
        /,
        *,
        add_special_tokens: bool = True,
        split_special_tokens: bool = ...,
        verbose: bool = True,
    ) -> list[int]:
        """Ids of a text.

        add_special_tokens: those that the tokenizer puts around a text.
        split_special_tokens: take special tokens that the text spells as text; by default as the
            tokenizer was published.
        verbose: warn of a text that is longer than the model's.
        """

    def decode(self, ids: list[int], /, *, skip_special_tokens: bool = False) -> str | list[str]:
        """The text of some ids: of one row a text."""

    def convert_ids_to_tokens(self, index: int, /) -> str | list[str]:
        """The vocabulary's entry of an id."""

    def convert_tokens_to_ids(self, name: str, /) -> int | list[int] | None:
        """The id of a token by its name; the unknown token's, or None, where there is none such."""

    def save_pretrained(self, folder: Path, /) -> tuple[str, ...]:
        """Write the files from which transformers loads the tokenizer again."""
