"""Rows of a known form -> conversations or plain text, or what is wrong with them."""

import json
from collections.abc import Sequence
from typing import Any

from glm_experiments.config import DataFormat
from glm_experiments.data.conversations import Conversation, Message, PlainText, Role
from glm_experiments.data.forms import Form
from glm_experiments.data.rejections import BadRow
from glm_experiments.data.rows import NOT_UTF8, Row, describe_bytes, is_utf8, name_type
from glm_experiments.spelling import nearest_word

Sample = Conversation | PlainText

ROLES: dict[str, Role] = {
    **dict.fromkeys(("system",), "system"),
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "model", "function_call"), "assistant"),
    **dict.fromkeys(("observation", "tool", "function"), "observation"),
}
"""What the sides are called in published data, and what they are here."""


def read_row(row: Row, form: Form) -> Sample:
    """The conversation or the text that a row holds.

    Raises:
        BadRow: what is wrong with it.
    """
    if row.problem is not None:
        raise row.problem
    columns = row.columns
    for name in form.required_columns():
        if name not in columns:
            near = nearest_word(name, columns)
            hint = "" if near is None else f" (nearest: {near!r})"
            raise BadRow("missing column", f"there is no {name!r}{hint}")
    match form.format:
        case DataFormat.text:
            return PlainText(_read_text(columns["text"], "text"), row.file, row.line)
        case DataFormat.messages:
            messages = _read_messages(columns["messages"], "messages")
        case DataFormat.sharegpt:
            messages = _read_messages(columns["conversations"], "conversations")
        case DataFormat.alpaca:
            material = columns.get("input")
            messages = [
                *_read_history(columns, form.history_column),
                Message(
                    "user",
                    _read_text(columns["instruction"], "question", column="instruction"),
                    "" if material is None else _check_text(material, "question", column="input"),
                ),
                Message("assistant", _read_text(columns["output"], "answer", column="output")),
            ]
        case DataFormat.prompt_response:
            prompt, response = form.required_columns()
            messages = [
                *_read_history(columns, form.history_column),
                Message("user", _read_text(columns[prompt], "question", column=prompt)),
                Message("assistant", _read_text(columns[response], "answer", column=response)),
            ]
        case _:
            raise AssertionError(f"no reader for data.format={form.format}")
    return Conversation(tuple(messages), row.file, row.line)


def _check_text(value: Any, what: str, *, column: str) -> str:
    if not isinstance(value, str):
        raise BadRow(f"{what} is no text", f"{column!r} is {name_type(value)}")
    if not is_utf8(value):
        raise BadRow(NOT_UTF8, f"{column!r} has {describe_bytes(value)}")
    return value


def _read_text(value: Any, what: str, *, column: str | None = None) -> str:
    column = column or what
    if value is None:
        raise BadRow(f"null {what}", f"{column!r} is null")
    if not _check_text(value, what, column=column).strip():
        raise BadRow(f"empty {what}", f"{column!r} is {'blank' if value else 'empty'}")
    return str(value)


def _read_history(columns: dict[str, Any], column: str | None) -> list[Message]:
    """Earlier rounds: a list of [question, answer], or in a table the JSON of one."""
    history = columns.get(column) if column is not None else None
    if isinstance(history, str) and history.strip():
        try:
            history = json.loads(history)
        except ValueError as error:
            raise BadRow("broken history", f"{column!r} is no JSON list: {error}") from error
    if not history or (isinstance(history, str) and not history.strip()):
        return []
    if not isinstance(history, list):
        raise BadRow("broken history", f"{column!r} is {name_type(history)}, not a list")
    messages = []
    for number, item in enumerate(history, start=1):
        if not isinstance(item, list | tuple) or len(item) != 2:
            raise BadRow("broken history", f"round {number} in {column!r} is no [question, answer]")
        place = f"{column}, round {number}"
        messages.append(Message("user", _read_text(item[0], "question", column=place)))
        messages.append(Message("assistant", _read_text(item[1], "answer", column=place)))
    return messages


def _read_messages(value: Any, column: str) -> list[Message]:
    if value is None or value == []:
        raise BadRow("empty conversation", f"{column!r} is {'null' if value is None else 'empty'}")
    if not isinstance(value, list):
        raise BadRow("conversation is no list", f"{column!r} is {name_type(value)}")
    messages = [_read_message(item, number) for number, item in enumerate(value, start=1)]
    _check_order([message.role for message in messages])
    return messages


def _read_message(item: Any, number: int) -> Message:
    """One message: role and content, or ShareGPT's from and value."""
    if not isinstance(item, dict):
        raise BadRow("message is no object", f"message {number} is {name_type(item)}")
    role_key, text_key = ("from", "value") if "from" in item else ("role", "content")
    for key in (role_key, text_key):
        if key not in item:
            raise BadRow("missing column", f"message {number} has no {key!r}, but {[*item]}")
    name = item[role_key]
    role = ROLES.get(name.lower()) if isinstance(name, str) else None
    if role is None:
        near = nearest_word(str(name), ROLES)
        hint = "" if near is None else f" (nearest: {near!r})"
        raise BadRow("unknown role", f"message {number} is by {name!r}{hint}")
    what = "answer" if role == "assistant" else "message"
    return Message(role, _read_text(item[text_key], what, column=f"message {number}"))


def _check_order(roles: Sequence[Role]) -> None:
    """A system message first or none; then question and answer in turn, an answer at the end."""
    turns = roles[1:] if roles[0] == "system" else roles
    for number, role in enumerate(turns):
        is_answer = role == "assistant"
        if (
            is_answer != bool(number % 2)
            or role == "system"
            or (role, number)
            == (
                "observation",
                0,
            )
        ):
            raise BadRow(
                "roles do not alternate",
                f"message {number + 1 + len(roles) - len(turns)} is by {role}, in "
                f"{', '.join(roles)}",
            )
    if len(turns) % 2 or not turns:
        raise BadRow("no answer at the end", f"the roles are {', '.join(roles)}")
