"""The forms of rows: which there are, which one a file has, and rows -> conversations or text.

Knows columns, neither file formats nor tokens.
"""

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from glm_experiments.config import DataFormat, FilesConfig
from glm_experiments.data.conversations import Conversation, Message, PlainText, Role
from glm_experiments.data.reading import NOT_UTF8, Row, describe_bytes, is_utf8, name_type
from glm_experiments.data.rejections import BadRow

log = logging.getLogger(__name__)

Sample = Conversation | PlainText

PROMPT_NAMES = ("prompt", "question", "query", "content", "input", "source", "problem")
RESPONSE_NAMES = ("response", "answer", "completion", "summary", "output", "target", "solution")
HISTORY = "history"
ROLES: dict[str, Role] = {
    **dict.fromkeys(("system",), "system"),
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "model", "function_call"), "assistant"),
    **dict.fromkeys(("observation", "tool", "function"), "observation"),
}
"""What the sides are called in published data, and what they are here."""


@dataclass(frozen=True, slots=True)
class Form:
    """How the rows of a source are to be understood; columns that the form has not are None."""

    format: DataFormat
    prompt_column: str | None = None
    response_column: str | None = None
    history_column: str | None = None

    def required_columns(self) -> list[str]:
        """Columns that every row must have."""
        match self.format:
            case DataFormat.alpaca:
                return ["instruction", "output"]
            case DataFormat.prompt_response:
                return [name for name in (self.prompt_column, self.response_column) if name]
            case DataFormat.messages:
                return ["messages"]
            case DataFormat.sharegpt:
                return ["conversations"]
            case DataFormat.text:
                return ["text"]

    def optional_columns(self) -> list[str]:
        """Columns that are read where a row has them."""
        material = ["input"] if self.format is DataFormat.alpaca else []
        return material + ([self.history_column] if self.history_column else [])


def detect_form(columns: Sequence[str], *, config: FilesConfig, source: str) -> Form:
    """The form that rows with these columns have; the config's word decides.

    Raises:
        ValueError: no form or several fit, or the form that was asked for doesn't.
    """
    named = {
        "prompt_column": config.prompt_column,
        "response_column": config.response_column,
        "history_column": config.history_column,
    }
    for key, column in named.items():
        if column is not None and column not in columns:
            raise ValueError(
                f"data.{key}={column}: {source} has no such column; "
                f"{_name_columns(columns, column, key=key)}"
            )
    fitting = _find_fitting(columns, config)
    chosen = config.format
    if chosen is None:
        if len(fitting) != 1:
            forms = " and ".join(fitting) if fitting else "none of the forms"
            example = next(iter(fitting), DataFormat.prompt_response)
            raise ValueError(
                f"{source}: the columns {', '.join(columns) or '(none)'} fit {forms}; type e.g. "
                f"data.format={example}, of {', '.join(DataFormat)}; for two columns of any name "
                "data.prompt_column=... data.response_column=..."
            )
        chosen = next(iter(fitting))
    wanted = [key for key in ("prompt_column", "response_column") if named[key] is not None]
    if wanted and chosen is not DataFormat.prompt_response:
        raise ValueError(
            f"data.{wanted[0]} belongs to data.format=prompt_response, but the form is {chosen}; "
            f"type data.format=prompt_response, or data.{wanted[0]}=null"
        )
    history = config.history_column or (HISTORY if HISTORY in columns else None)
    if chosen not in (DataFormat.alpaca, DataFormat.prompt_response):
        history = None
    if chosen is DataFormat.prompt_response:
        prompt, response = _choose_columns(columns, config, source)
        return Form(chosen, prompt, response, history)
    form = Form(chosen, history_column=history)
    for column in form.required_columns():
        if column not in columns:
            others = ", ".join(fitting) or "prompt_response with data.prompt_column=... " + (
                "data.response_column=..."
            )
            raise ValueError(
                f"data.format={chosen} needs the column {column}, which {source} has not; "
                f"{_name_columns(columns, column)}; or type another data.format: {others}"
            )
    return form


def describe_form(form: Form, columns: Sequence[str]) -> str:
    """The form and its columns in a line, with the columns that are left unread."""
    used = [*form.required_columns(), *(c for c in form.optional_columns() if c in columns)]
    unread = [column for column in columns if column not in used]
    rest = f"; not read: {', '.join(unread)}" if unread else ""
    return f"{form.format} (columns {', '.join(used)}{rest})"


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
            near = get_close_matches(name, columns, n=1, cutoff=0.6)
            hint = f" (nearest: {near[0]!r})" if near else ""
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
    return Conversation(tuple(messages), row.file, row.line)


def _find_fitting(columns: Sequence[str], config: FilesConfig) -> dict[DataFormat, str]:
    """Forms that the columns fit."""
    if config.prompt_column is not None or config.response_column is not None:
        return {DataFormat.prompt_response: ""}
    fits: Callable[[Iterable[str]], bool] = set(columns).issuperset
    is_alpaca = fits(["instruction", "output"])
    rest = [name for name in columns if not is_alpaca or name not in ("input", "output")]
    has_response = any(name in RESPONSE_NAMES for name in rest)
    has_pair = has_response and any(name in (*PROMPT_NAMES, "text") for name in rest)
    found = {
        DataFormat.alpaca: is_alpaca,
        DataFormat.prompt_response: has_pair,
        DataFormat.messages: fits(["messages"]),
        DataFormat.sharegpt: fits(["conversations"]),
        DataFormat.text: fits(["text"]),
    }
    return {form: "" for form, is_fitting in found.items() if is_fitting}


def _choose_columns(columns: Sequence[str], config: FilesConfig, source: str) -> tuple[str, str]:
    """Prompt and response column: as given, else the one column that has a known name."""
    chosen = []
    for key, given, known in (
        ("prompt_column", config.prompt_column, PROMPT_NAMES),
        ("response_column", config.response_column, RESPONSE_NAMES),
    ):
        others = (config.prompt_column, config.response_column, config.history_column)
        names = [name for name in columns if name in known and name not in others]
        if given is None and len(names) != 1:
            found = f"{' and '.join(names)} could be" if names else "no column has a known name for"
            raise ValueError(
                f"{source}: {found} the {key.removesuffix('_column')}; the columns are "
                f"{', '.join(columns)}; type data.{key}=..."
            )
        chosen.append(given or names[0])
    return chosen[0], chosen[1]


def _name_columns(columns: Sequence[str], wanted: str, *, key: str | None = None) -> str:
    near = get_close_matches(wanted, columns, n=1, cutoff=0.5)
    listed = f"its columns are {', '.join(columns) or '(none)'}"
    if not near:
        return f"{listed}{f'; type data.{key}=...' if key else ''}"
    return f"{listed}; the nearest is {near[0]}{f': type data.{key}={near[0]}' if key else ''}"


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
        near = get_close_matches(str(name), ROLES, n=1)
        hint = f" (nearest: {near[0]!r})" if near else ""
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
