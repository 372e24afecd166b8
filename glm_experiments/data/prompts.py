"""The prompt formats: messages -> token ids, the same from training through evaluation to chat.

Text never becomes a special token, whatever it spells. Knows a tokenizer object, no model. The
forms are those of the published generations' own code.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from glm_experiments.data.conversations import Conversation, Message


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids, whether each is trained on, and how many tokens before the last answer are its
    cue, which no cut may remove."""

    input_ids: list[int]
    is_trained: list[bool]
    cue_length: int = 0


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


def encode_prompt(tokenizer: Any, messages: Sequence[Message], *, prompt_format: str) -> list[int]:
    """Ids up to where the answer begins: the answer cue, with the generation's special tokens.

    Raises:
        ValueError: roles or an order that the format cannot express; a tokenizer without its
            special tokens.
    """
    return _encode_prompt(tokenizer, messages, _find_form(prompt_format)).input_ids


def encode_answer(tokenizer: Any, text: str, *, prompt_format: str) -> list[int]:
    """Ids of an answer, with the token that ends it."""
    form = _find_form(prompt_format)
    ids = _encode_text(tokenizer, text)
    if isinstance(form, TextForm):
        return [*ids, _end_id(tokenizer)]
    end = _end_id(tokenizer) if form.end is None else _token_id(tokenizer, form.end)
    return [*_encode_constant(tokenizer, "\n"), *ids, end]


def stop_token_ids(tokenizer: Any, *, prompt_format: str) -> list[int]:
    """Ids at which a generated answer is over."""
    if isinstance(_find_form(prompt_format), TextForm):
        return [_end_id(tokenizer)]
    roles = [_token_id(tokenizer, name) for name in (USER, OBSERVATION)]
    return list(dict.fromkeys([_end_id(tokenizer), *roles]))


def decode_answer(tokenizer: Any, ids: Sequence[int], *, prompt_format: str) -> str:
    """Text of a generated answer up to its first stop token, without blanks around it.

    An unfinished character at the end is left out, so that text can be shown while it grows.
    """
    stops = stop_token_ids(tokenizer, prompt_format=prompt_format)
    end = next((place for place, index in enumerate(ids) if index in stops), len(ids))
    return str(tokenizer.decode(list(ids[:end]), skip_special_tokens=True)).rstrip("\ufffd").strip()


def encode_conversation(
    tokenizer: Any, conversation: Conversation, *, prompt_format: str, train_on: str
) -> list[Encoded]:
    """Training samples of a conversation, `train_on` every_turn or last_turn.

    Where a prompt is one text, each answer is a sample of its own, behind exactly the prompt that
    asks for it; otherwise one sample holds all answers. An answer is trained with its end token.

    Raises:
        ValueError: naming file and line: nothing to train on, or what `encode_prompt` refuses.
    """
    form = _find_form(prompt_format)
    messages = conversation.messages
    answers = [place for place, message in enumerate(messages) if message.role == "assistant"]
    try:
        if not answers:
            raise ValueError("the conversation has no answer of the assistant to train on")
        if train_on == "last_turn" or isinstance(form, RoleForm):
            answers = answers[-1:]
        samples = []
        for place in answers:
            prompt = _encode_prompt(tokenizer, messages[:place], form)
            answer = encode_answer(tokenizer, messages[place].content, prompt_format=prompt_format)
            is_trained = prompt.is_trained
            if train_on == "last_turn":
                is_trained = [False] * len(is_trained)
            samples.append(
                Encoded(
                    prompt.input_ids + answer,
                    is_trained + [True] * len(answer),
                    prompt.cue_length,
                )
            )
        return samples
    except ValueError as error:
        raise ValueError(f"{conversation.file}, line {conversation.line}: {error}") from error


def encode_text(tokenizer: Any, text: str, *, context_length: int) -> list[Encoded]:
    """Plain text as samples of at most `context_length` tokens, all trained but the special tokens
    that stand before a text; the last sample ends with the end of text."""
    start = _start_ids(tokenizer)
    length = context_length - len(start)
    if length < 1:
        raise ValueError(
            f"data.context_length={context_length} leaves no room for text; "
            f"type at least data.context_length={len(start) + 1}"
        )
    ids = [*_encode_text(tokenizer, text), _end_id(tokenizer)]
    parts = [ids[begin : begin + length] for begin in range(0, len(ids), length)]
    return [
        Encoded([*start, *part], [False] * len(start) + [True] * len(part), len(start))
        for part in parts
    ]


def fit_context(encoded: Encoded, *, context_length: int) -> tuple[Encoded, int]:
    """Cut a sample to `context_length` tokens; returns it and the number of tokens cut.

    The middle of the context (all before the last answer) goes first, then the answer's end. The
    answer cue and at least one token of the answer always stay. What remains of an earlier answer
    that was cut through is not trained.

    Raises:
        ValueError: not even the cue and one token fit.
    """
    ids, is_trained, cue = encoded.input_ids, encoded.is_trained, encoded.cue_length
    num_cut = len(ids) - context_length
    if num_cut <= 0:
        return encoded, 0
    if context_length <= cue:
        raise ValueError(
            f"data.context_length={context_length} cannot hold the answer cue ({cue} tokens) and "
            f"one token of the answer; type a larger one"
        )
    start = len(ids)
    while start and is_trained[start - 1]:
        start -= 1
    room = max(context_length - (len(ids) - start), cue)
    kept = min(room, start, context_length - 1)
    tail = max(kept - kept // 2, min(cue, kept))
    head, resume, end = kept - tail, start - tail, start + context_length - kept
    is_tail_trained = is_trained[resume:start]
    if resume > head and False in is_tail_trained:
        broken = is_tail_trained.index(False)
        is_tail_trained[:broken] = [False] * broken
    return (
        Encoded(
            ids[:head] + ids[resume:end],
            is_trained[:head] + is_tail_trained + is_trained[start:end],
            cue,
        ),
        num_cut,
    )


def describe_prompt(messages: Sequence[Message], *, prompt_format: str) -> str:
    """A question as a reader wants it: its text alone, or with what was said before it."""
    if len(messages) == 1 and prompt_format != "alpaca":
        return join_input(messages[0])
    form = _find_form(prompt_format)
    if isinstance(form, TextForm):
        return form.write(*_split_rounds(messages))
    return "".join(f"<|{message.role}|>\n{join_input(message)}" for message in messages)


def _encode_prompt(
    tokenizer: Any, messages: Sequence[Message], form: TextForm | RoleForm
) -> Encoded:
    """The prompt; answers that a role form's prompt holds are marked as trained."""
    if isinstance(form, TextForm):
        text = form.write(*_split_rounds(messages))
        # The tokenizer's own special tokens: [gMASK] and <sop>, before or behind the text.
        ids = tokenizer.encode(text, split_special_tokens=True)
        cue_length = len(_encode_constant(tokenizer, form.cue)) + len(_start_ids(tokenizer))
        return Encoded(ids, [False] * len(ids), min(cue_length, len(ids)))
    ids = [_token_id(tokenizer, name) for name in form.start]
    is_trained = [False] * len(ids)
    was_answer = False
    for message in messages:
        is_answer = message.role == "assistant"
        text_ids = [
            *_encode_constant(tokenizer, "\n"),
            *_encode_text(tokenizer, join_input(message)),
        ]
        ids += [_token_id(tokenizer, f"<|{message.role}|>"), *text_ids]
        # The next role's token is what ends an answer.
        is_trained += [was_answer and not is_answer, *[is_answer] * len(text_ids)]
        was_answer = is_answer
    return Encoded([*ids, _token_id(tokenizer, ASSISTANT)], [*is_trained, False], cue_length=1)


def _split_rounds(
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


def _find_form(prompt_format: str) -> TextForm | RoleForm:
    if prompt_format not in FORMS:
        raise ValueError(
            f"prompt_format={prompt_format} is unknown; type one of {', '.join(FORMS)}"
        )
    return FORMS[prompt_format]


def _encode_text(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(
        text, add_special_tokens=False, split_special_tokens=True, verbose=False
    )
    return ids


@lru_cache(maxsize=64)
def _encode_constant(tokenizer: Any, text: str) -> tuple[int, ...]:
    return tuple(_encode_text(tokenizer, text))


@lru_cache(maxsize=8)
def _start_ids(tokenizer: Any) -> tuple[int, ...]:
    """What the tokenizer puts around a text: [gMASK] and <sop>."""
    return tuple(tokenizer.encode(""))


@lru_cache(maxsize=256)
def _token_id(tokenizer: Any, name: str) -> int:
    index = tokenizer.convert_tokens_to_ids(name)
    if index is None or index == tokenizer.unk_token_id:
        raise ValueError(
            f"the tokenizer ({len(tokenizer)} tokens) lacks {name}, which the prompt format needs; "
            "type the format of the model's generation, e.g. data.prompt_format=chatglm2"
        )
    return int(index)


def _end_id(tokenizer: Any) -> int:
    if tokenizer.eos_token_id is None:
        raise ValueError(
            f"the tokenizer ({len(tokenizer)} tokens) names no end of text (eos_token), so no "
            "answer could end; set it in its tokenizer_config.json"
        )
    return int(tokenizer.eos_token_id)
