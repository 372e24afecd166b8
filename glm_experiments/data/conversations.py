"""What data is once it has been read: conversations or plain text, each with its place of origin.

Knows neither files nor tokens.
"""

from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant", "observation"]


@dataclass(frozen=True, slots=True)
class Message:
    """What one side says. `input` is the material of an instruction (alpaca's `input`)."""

    role: Role
    content: str
    input: str = ""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in order, read from line `line` of `file`; `kind` of a generated question."""

    messages: tuple[Message, ...]
    file: str
    line: int
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class PlainText:
    """Text without questions and answers, read from line `line` of `file`."""

    text: str
    file: str
    line: int
