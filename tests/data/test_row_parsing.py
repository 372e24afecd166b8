"""Rows of every form: the conversations that they hold, and what is said of bad ones."""

from typing import Any

import pytest

from glm_experiments.config import DataFormat
from glm_experiments.data.conversations import Conversation, Message, PlainText
from glm_experiments.data.forms import Form
from glm_experiments.data.rejections import BadRow
from glm_experiments.data.row_parsing import read_row
from glm_experiments.data.rows import Row

ALPACA = Form(DataFormat.alpaca, history_column="history")
PAIR = Form(DataFormat.prompt_response, "content", "summary", "history")
MESSAGES = Form(DataFormat.messages)
SHAREGPT = Form(DataFormat.sharegpt)


def parse(columns: dict[str, Any], form: Form) -> tuple[Message, ...]:
    sample = read_row(Row("a.json", 7, columns), form)
    assert isinstance(sample, Conversation)
    assert (sample.file, sample.line, sample.kind) == ("a.json", 7, None)
    return sample.messages


def say(*texts: str) -> list[dict[str, str]]:
    roles = ["user", "assistant"] * len(texts)
    return [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]


def test_alpaca() -> None:
    history = [["q1", "a1"], ["q2", "a2"]]
    row = {"instruction": "i", "input": "m", "output": " o ", "history": history}
    assert parse(row, ALPACA) == (
        Message("user", "q1"),
        Message("assistant", "a1"),
        Message("user", "q2"),
        Message("assistant", "a2"),
        Message("user", "i", "m"),
        Message("assistant", " o "),
    )
    for nothing in ({}, {"input": None, "history": None}, {"input": "", "history": []}):
        messages = parse({"instruction": "i", "output": "o"} | nothing, ALPACA)
        assert messages == (Message("user", "i"), Message("assistant", "o"))


def test_prompt_and_response() -> None:
    row = {"content": "c", "summary": "s", "other": 3}
    assert parse(row, PAIR) == (Message("user", "c"), Message("assistant", "s"))


def test_history_of_a_table_is_json() -> None:
    row = {"content": "c", "summary": "s", "history": '[["q", "a"]]'}
    assert parse(row, PAIR)[:2] == (Message("user", "q"), Message("assistant", "a"))
    assert len(parse(row | {"history": " "}, PAIR)) == 2


def test_messages_and_sharegpt() -> None:
    system = {"role": "system", "content": "s"}
    tools = [
        {"role": "tool", "content": "t"},
        {"role": "assistant", "content": "a2"},
    ]
    assert parse({"messages": [system, *say("q", "a"), *tools]}, MESSAGES) == (
        Message("system", "s"),
        Message("user", "q"),
        Message("assistant", "a"),
        Message("observation", "t"),
        Message("assistant", "a2"),
    )
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    assert parse({"conversations": turns}, SHAREGPT) == (
        Message("user", "q"),
        Message("assistant", "a"),
    )
    # ChatGLM3's own data: ShareGPT's column with the other names.
    assert len(parse({"conversations": say("q", "a", "q2", "a2")}, SHAREGPT)) == 4


def test_text() -> None:
    row = Row("a.txt", 3, {"text": "t"})
    assert read_row(row, Form(DataFormat.text)) == PlainText("t", "a.txt", 3)


@pytest.mark.parametrize(
    ("form", "columns", "reason", "detail"),
    [
        (PAIR, {"content": "c", "summry": "s"}, "missing column", "'summary' (nearest: 'summry')"),
        (PAIR, {"content": "c"}, "missing column", "there is no 'summary'"),
        (PAIR, {"content": "c", "summary": None}, "null answer", "'summary' is null"),
        (PAIR, {"content": "c", "summary": ""}, "empty answer", "'summary' is empty"),
        (PAIR, {"content": "c", "summary": " \n"}, "empty answer", "'summary' is blank"),
        (PAIR, {"content": "c", "summary": 5}, "answer is no text", "'summary' is a number"),
        (PAIR, {"content": "c", "summary": ["s"]}, "answer is no text", "a list"),
        (PAIR, {"content": "c", "summary": True}, "answer is no text", "true or false"),
        (PAIR, {"content": None, "summary": "s"}, "null question", "'content' is null"),
        (PAIR, {"content": " ", "summary": "s"}, "empty question", "'content'"),
        (PAIR, {"content": "c", "summary": "\ud83d"}, "not UTF-8", "half of a surrogate pair"),
        (PAIR, {"content": "c", "summary": "a\udcd6\udcd0"}, "not UTF-8", "looks like GBK"),
        (ALPACA, {"instruction": "i", "input": 3, "output": "o"}, "question is no text", "'input'"),
        (
            PAIR,
            {"content": "c", "summary": "s", "history": [["q"]]},
            "broken history",
            "round 1 in 'history' is no [question, answer]",
        ),
        (
            PAIR,
            {"content": "c", "summary": "s", "history": [["q", None]]},
            "null answer",
            "history, round 1",
        ),
        (PAIR, {"content": "c", "summary": "s", "history": 3}, "broken history", "a number"),
        (PAIR, {"content": "c", "summary": "s", "history": "[["}, "broken history", "no JSON"),
        (MESSAGES, {"messages": []}, "empty conversation", "'messages' is empty"),
        (MESSAGES, {"messages": None}, "empty conversation", "'messages' is null"),
        (MESSAGES, {"messages": "hi"}, "conversation is no list", "a text"),
        (MESSAGES, {"messages": ["hi"]}, "message is no object", "message 1 is a text"),
        (
            MESSAGES,
            {"messages": [{"role": "user"}]},
            "missing column",
            "message 1 has no 'content'",
        ),
        (
            MESSAGES,
            {"messages": [{"role": "usr", "content": "q"}]},
            "unknown role",
            "message 1 is by 'usr' (nearest: 'user')",
        ),
        (MESSAGES, {"messages": [{"role": None, "content": "q"}]}, "unknown role", "None"),
        (MESSAGES, {"messages": say("q", "")}, "empty answer", "message 2"),
        (
            MESSAGES,
            {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
            "message is no text",
            "message 1",
        ),
        (
            MESSAGES,
            {"messages": [*say("q"), *say("q2", "a")]},
            "roles do not alternate",
            "message 2 is by user, in user, user, assistant",
        ),
        (MESSAGES, {"messages": say("q", "a")[1:]}, "roles do not alternate", "message 1"),
        (
            MESSAGES,
            {"messages": [*say("q", "a"), {"role": "system", "content": "s"}, *say("a")]},
            "roles do not alternate",
            "message 3 is by system",
        ),
        (MESSAGES, {"messages": say("q", "a", "q2")}, "no answer at the end", "assistant, user"),
        (
            MESSAGES,
            {"messages": [{"role": "system", "content": "s"}]},
            "no answer at the end",
            "system",
        ),
    ],
)
def test_bad_rows(form: Form, columns: dict[str, Any], reason: str, detail: str) -> None:
    with pytest.raises(BadRow) as error:
        read_row(Row("a.json", 7, columns), form)
    assert error.value.reason == reason
    assert detail in str(error.value)
