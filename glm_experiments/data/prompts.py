"""Messages or plain text -> token ids, the same from training through evaluation to chat.

Text never becomes a special token, whatever it spells. Knows a tokenizer object, no model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from glm_experiments.data.answers import encode_answer
from glm_experiments.data.conversations import Conversation, Message
from glm_experiments.data.prompt_formats import (
    ASSISTANT,
    RoleForm,
    TextForm,
    find_form,
    join_input,
    split_rounds,
)
from glm_experiments.data.token_ids import (
    encode_constant,
    encode_plain,
    end_id,
    start_ids,
    token_id,
)
from glm_experiments.tokenizer_protocol import Tokenizer


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids, whether each is trained on, and how many tokens before the last answer are its
    cue, which no cut may remove."""

    input_ids: list[int]
    is_trained: list[bool]
    cue_length: int = 0


def encode_prompt(
    tokenizer: Tokenizer, messages: Sequence[Message], *, prompt_format: str
) -> list[int]:
    """Ids up to where the answer begins: the answer cue, with the generation's special tokens.

    Raises:
        ValueError: roles or an order that the format cannot express; a tokenizer without its
            special tokens.
    """
    return _encode_prompt(tokenizer, messages, find_form(prompt_format)).input_ids


def encode_conversation(
    tokenizer: Tokenizer, conversation: Conversation, *, prompt_format: str, train_on: str
) -> list[Encoded]:
    """Training samples of a conversation, `train_on` every_turn or last_turn.

    Where a prompt is one text, each answer is a sample of its own, behind exactly the prompt that
    asks for it; otherwise one sample holds all answers. An answer is trained with its end token.

    Raises:
        ValueError: naming file and line: nothing to train on, or what `encode_prompt` refuses.
    """
    form = find_form(prompt_format)
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


def encode_text(tokenizer: Tokenizer, text: str, *, context_length: int) -> list[Encoded]:
    """Plain text as samples of at most `context_length` tokens, all trained but the special tokens
    that stand before a text; the last sample ends with the end of text."""
    start = start_ids(tokenizer)
    length = context_length - len(start)
    if length < 1:
        raise ValueError(
            f"data.context_length={context_length} leaves no room for text; "
            f"type at least data.context_length={len(start) + 1}"
        )
    ids = [*encode_plain(tokenizer, text), end_id(tokenizer)]
    parts = [ids[begin : begin + length] for begin in range(0, len(ids), length)]
    return [
        Encoded([*start, *part], [False] * len(start) + [True] * len(part), len(start))
        for part in parts
    ]


def _encode_prompt(
    tokenizer: Tokenizer, messages: Sequence[Message], form: TextForm | RoleForm
) -> Encoded:
    """The prompt; answers that a role form's prompt holds are marked as trained."""
    if isinstance(form, TextForm):
        text = form.write(*split_rounds(messages))
        # The tokenizer's own special tokens: [gMASK] and <sop>, before or behind the text.
        ids = tokenizer.encode(text, split_special_tokens=True)
        cue_length = len(encode_constant(tokenizer, form.cue)) + len(start_ids(tokenizer))
        return Encoded(ids, [False] * len(ids), min(cue_length, len(ids)))
    ids = [token_id(tokenizer, name) for name in form.start]
    is_trained = [False] * len(ids)
    was_answer = False
    for message in messages:
        is_answer = message.role == "assistant"
        text_ids = [
            *encode_constant(tokenizer, "\n"),
            *encode_plain(tokenizer, join_input(message)),
        ]
        ids += [token_id(tokenizer, f"<|{message.role}|>"), *text_ids]
        # The next role's token is what ends an answer.
        is_trained += [was_answer and not is_answer, *[is_answer] * len(text_ids)]
        was_answer = is_answer
    return Encoded([*ids, token_id(tokenizer, ASSISTANT)], [*is_trained, False], cue_length=1)
