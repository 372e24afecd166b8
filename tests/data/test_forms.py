"""Which form a source has, and what is asked of the user where that can't be told."""

from typing import Any

import pytest

from glm_experiments.config import DataFormat
from glm_experiments.data.forms import Form, describe_form, detect_form
from tests.data.configs import data_config


def detect(columns: list[str], option: str = "files", **changes: Any) -> Form:
    changes = {"path": "a.json", "num_validation_rows": 0} | changes
    return detect_form(columns, config=data_config(option, **changes), source="a.json")


@pytest.mark.parametrize(
    ("columns", "form"),
    [
        (["instruction", "input", "output"], Form(DataFormat.alpaca, history_column="history")),
        (["instruction", "output"], Form(DataFormat.alpaca, history_column="history")),
        (
            ["instruction", "input", "output", "history"],
            Form(DataFormat.alpaca, history_column="history"),
        ),
        (["content", "summary"], Form(DataFormat.prompt_response, "content", "summary", "history")),
        (
            ["id", "prompt", "completion"],
            Form(DataFormat.prompt_response, "prompt", "completion", "history"),
        ),
        (
            ["question", "answer", "history"],
            Form(DataFormat.prompt_response, "question", "answer", "history"),
        ),
        (["id", "messages"], Form(DataFormat.messages)),
        (["conversations", "history"], Form(DataFormat.sharegpt)),
        (["text", "meta"], Form(DataFormat.text)),
    ],
)
def test_detected_forms(columns: list[str], form: Form) -> None:
    assert detect(columns) == form


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (
            ["a", "b"],
            ["columns a, b fit none", "data.format=prompt_response", "data.prompt_column"],
        ),
        (["messages", "text"], ["fit messages and text", "data.format=messages"]),
        (["text", "summary"], ["fit prompt_response and text"]),
        (["instruction", "output", "answer", "question"], ["fit alpaca and prompt_response"]),
        (["prompt", "question", "answer"], ["prompt and question could be the prompt"]),
        (["instruction", "context", "response"], ["fit none"]),
        ([], ["columns (none) fit none"]),
    ],
)
def test_ambiguous_columns_are_for_the_user_to_decide(columns: list[str], words: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^a\.json: ") as error:
        detect(columns)
    assert all(word in str(error.value) for word in words), error.value


def test_the_format_of_the_config_decides() -> None:
    assert detect(["messages", "text"], format="text") == Form(DataFormat.text)
    form = detect(["prompt", "answer", "text"], format="prompt_response")
    assert form == Form(DataFormat.prompt_response, "prompt", "answer", "history")


def test_columns_of_any_name() -> None:
    form = detect(
        ["問い", "答え", "前", "text"],
        prompt_column="問い",
        response_column="答え",
        history_column="前",
    )
    assert form == Form(DataFormat.prompt_response, "問い", "答え", "前")
    # One of them may be left to be detected.
    form = detect(["問い", "answer"], prompt_column="問い")
    assert form == Form(DataFormat.prompt_response, "問い", "answer", "history")


def test_a_mistyped_column_gets_the_nearest() -> None:
    with pytest.raises(
        ValueError, match=r"data\.prompt_column=contnt: a\.json has no such"
    ) as error:
        detect(["content", "summary"], prompt_column="contnt")
    assert "type data.prompt_column=content" in str(error.value)
    with pytest.raises(ValueError, match=r"columns are a, b; type data\.response_column=") as error:
        detect(["a", "b"], prompt_column="a")


def test_a_form_that_the_columns_have_not() -> None:
    with pytest.raises(ValueError, match=r"data\.format=alpaca needs the column output") as error:
        detect(["instruction", "outptu"], "files", format="alpaca")
    assert "the nearest is outptu" in str(error.value)
    with pytest.raises(ValueError, match=r"type another data\.format: prompt_response"):
        detect(["content", "summary"], format="messages")


def test_columns_of_another_form_are_not_ignored() -> None:
    with pytest.raises(
        ValueError, match=r"data\.prompt_column belongs to data\.format=prompt_resp"
    ):
        detect(["instruction", "output"], format="alpaca", prompt_column="instruction")
    with pytest.raises(ValueError, match=r"data\.history_column belongs to"):
        detect(["messages", "past"], history_column="past")


def test_what_was_detected_is_said_with_the_columns_left_unread() -> None:
    columns = ["instruction", "output", "system", "history"]
    words = describe_form(detect(columns), columns)
    assert words == "alpaca (columns instruction, output, history; not read: system)"
