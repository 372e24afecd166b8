"""The forms of rows: which there are, and which one the columns of a source have."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from glm_experiments.config import DataFormat, FilesConfig
from glm_experiments.spelling import nearest_word

PROMPT_NAMES = ("prompt", "question", "query", "content", "input", "source", "problem")
RESPONSE_NAMES = ("response", "answer", "completion", "summary", "output", "target", "solution")
HISTORY = "history"
"""Earlier rounds, in whichever rows have them."""


COLUMN_KEYS = {
    DataFormat.alpaca: ("history_column",),
    DataFormat.prompt_response: ("prompt_column", "response_column", "history_column"),
}
"""Settings of column names that a form has."""


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
            case _:
                raise AssertionError(f"no columns for data.format={self.format}")

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
            example = fitting[0] if fitting else DataFormat.prompt_response
            raise ValueError(
                f"{source}: the columns {', '.join(columns) or '(none)'} fit {forms}; type e.g. "
                f"data.format={example}, of {', '.join(DataFormat)}; for two columns of any name "
                "data.prompt_column=... data.response_column=..."
            )
        chosen = fitting[0]
    for key, column in named.items():
        if column is not None and key not in COLUMN_KEYS.get(chosen, ()):
            raise ValueError(
                f"data.{key} belongs to data.format=prompt_response, but the form is {chosen}; "
                f"type data.format=prompt_response, or data.{key}=null"
            )
    history = (config.history_column or HISTORY) if chosen in COLUMN_KEYS else None
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


def _find_fitting(columns: Sequence[str], config: FilesConfig) -> list[DataFormat]:
    """Forms that the columns fit."""
    if config.prompt_column is not None or config.response_column is not None:
        return [DataFormat.prompt_response]
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
    return [form for form, is_fitting in found.items() if is_fitting]


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
    near = nearest_word(wanted, columns, cutoff=0.5)
    listed = f"its columns are {', '.join(columns) or '(none)'}"
    if near is None:
        return f"{listed}{f'; type data.{key}=...' if key else ''}"
    return f"{listed}; the nearest is {near}{f': type data.{key}={near}' if key else ''}"
