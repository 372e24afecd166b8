"""The prompt formats: how each writes a conversation, as the published generations' own code does.

Knows text and the names of special tokens, no tokenizer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from glm_experiments.data.conversations import Message


@dataclass(frozen=True, slots=True)
class TextForm:
    """The whole prompt is one text; the tokenizer puts its special tokens around it."""

    write: Callable[[str, Sequence[tuple[Message, str]], Message], str]
    """(system text, rounds of question and answer, question) -> text that ends with the cue."""
    cue: str


@dataclass(frozen=True, slots=True)
class RoleForm:
    """Every message stands behind the token of its role, so that one sample holds all turns."""

    start: tuple[str, ...]
    end: str | None
    """What follows the last answer; None: the tokenizer's end of text."""


def join_input(message: Message) -> str:
    """A question with its material below it."""
    return f"{message.content}\n{message.input}" if message.input else message.content


def write_chatglm(system: str, rounds: Sequence[tuple[Message, str]], question: Message) -> str:
    """ChatGLM-6B: rounds from 0; a first question stands alone."""
    start = f"{system}\n" if system else ""
    if not rounds:
        return start + join_input(question)
    history = "".join(
        f"[Round {number}]\n问：{join_input(asked)}\n答：{answer}\n"
        for number, (asked, answer) in enumerate(rounds)
    )
    return f"{start}{history}[Round {len(rounds)}]\n问：{join_input(question)}\n答："


def write_chatglm2(system: str, rounds: Sequence[tuple[Message, str]], question: Message) -> str:
    """ChatGLM2-6B: rounds from 1, set apart by empty lines."""
    start = f"{system}\n\n" if system else ""
    history = "".join(
        f"[Round {number}]\n\n问：{join_input(asked)}\n\n答：{answer}\n\n"
        for number, (asked, answer) in enumerate(rounds, start=1)
    )
    return f"{start}{history}[Round {len(rounds) + 1}]\n\n问：{join_input(question)}\n\n答："


def write_alpaca(system: str, rounds: Sequence[tuple[Message, str]], question: Message) -> str:
    """Instruction, input where there is one, answer."""

    def ask(message: Message) -> str:
        material = f"Input: {message.input}\n" if message.input else ""
        return f"Instruction: {message.content}\n{material}Answer: "

    start = f"{system}\n" if system else ""
    return start + "".join(f"{ask(asked)}{answer}\n" for asked, answer in rounds) + ask(question)


FORMS: dict[str, TextForm | RoleForm] = {
    "chatglm": TextForm(write_chatglm, cue="答："),
    "chatglm2": TextForm(write_chatglm2, cue="答："),
    "chatglm3": RoleForm(start=("[gMASK]", "sop"), end=None),
    "glm4": RoleForm(start=("[gMASK]", "<sop>"), end="<|user|>"),
    "alpaca": TextForm(write_alpaca, cue="Answer: "),
}
USER, ASSISTANT, OBSERVATION = "<|user|>", "<|assistant|>", "<|observation|>"


def find_form(prompt_format: str) -> TextForm | RoleForm:
    if prompt_format not in FORMS:
        raise ValueError(
            f"prompt_format={prompt_format} is unknown; type one of {', '.join(FORMS)}"
        )
    return FORMS[prompt_format]


def split_rounds(
    messages: Sequence[Message],
) -> tuple[str, list[tuple[Message, str]], Message]:
    """Messages as (system text, rounds of question and answer, question)."""
    begin = 1 if messages and messages[0].role == "system" else 0
    turns = messages[begin:]
    expected = ["user", "assistant"] * (len(turns) // 2) + ["user"]
    roles = [message.role for message in turns]
    if roles != expected:
        raise ValueError(
            f"the roles {', '.join(message.role for message in messages) or '(none)'} are no "
            "alternation of user and assistant, after at most one system message, that ends with "
            "a question; only the prompt formats chatglm3 and glm4 take other orders and roles"
        )
    rounds = [
        (asked, answer.content) for asked, answer in zip(turns[:-1:2], turns[1::2], strict=True)
    ]
    return messages[0].content if begin else "", rounds, turns[-1]


def describe_prompt(messages: Sequence[Message], *, prompt_format: str) -> str:
    """A question as a reader wants it: its text alone, or with what was said before it."""
    if len(messages) == 1 and prompt_format != "alpaca":
        return join_input(messages[0])
    form = find_form(prompt_format)
    if isinstance(form, TextForm):
        return form.write(*split_rounds(messages))
    return "".join(f"<|{message.role}|>\n{join_input(message)}" for message in messages)
