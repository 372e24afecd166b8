"""glm-chat: talks to a model in the terminal, in the prompt format that it was trained in."""

from __future__ import annotations

import argparse
import functools
import io
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from glm_experiments.commands.command_line import run_command
from glm_experiments.commands.subjects import (
    Answering,
    Subject,
    build_subject_parser,
    find_subject,
)
from glm_experiments.data.conversations import Message
from glm_experiments.record.signals import signal_of

if TYPE_CHECKING:
    import torch

DESCRIPTION = """\
Talk to a run's model; /help lists the commands inside.

Or to a model without a run:
  glm-chat EXPORT_DIR            what glm-export wrote
  glm-chat model=chatglm3_6b     a model that is not tuned

So many tokens of a conversation are remembered: data.context_length; an answer ends after
evaluation.max_new_tokens."""

HELP = """\
/clear          forget the conversation
/undo           forget the last question and its answer
/history        show the conversation
/system TEXT    start anew with an instruction to the model
/help           this list
/exit           leave (also Ctrl-D); Ctrl-C stops an answer, or takes back a line"""


class ChatSession:
    """The messages so far and the commands on them."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def act(self, command: str) -> str:
        """Carry out a command that starts with a slash; returns what to say."""
        word, _, rest = command.partition(" ")
        match word:
            case "/clear":
                self.messages.clear()
                return "forgotten"
            case "/undo":
                if not self.messages or self.messages[-1].role == "system":
                    return "there is nothing to undo"
                while self.messages and self.messages.pop().role != "user":
                    pass
                return "forgotten: the last question and its answer"
            case "/history":
                shown = [f"{each.role}: {each.content}" for each in self.messages]
                return "\n".join(shown) or "nothing was said yet"
            case "/system":
                self.messages = [Message("system", rest)] if rest.strip() else []
                return "started anew"
            case "/help":
                return HELP
            case _:
                return f"there is no command {word}\n{HELP}"


def drop_oldest_turns(
    messages: list[Message], *, encode: Callable[[list[Message]], list[int]], longest: int
) -> tuple[list[Message], list[int], int]:
    """The messages whose prompt has at most `longest` tokens, that prompt, and the turns dropped.

    The instruction and the last question stay, whatever their length.
    """
    kept = list(messages)
    if len(ids := encode(kept)) <= longest:
        return kept, ids, 0
    first = 1 if kept[0].role == "system" else 0
    shortest = [*kept[:first], kept[-1]]
    if len(ids := encode(shortest)) > longest:
        return shortest, ids, sum(each.role == "user" for each in kept[first:-1])
    num_dropped = 0
    while len(ids := encode(kept)) > longest:
        del kept[first]
        while len(kept) > first + 1 and kept[first].role != "user":
            del kept[first]
        num_dropped += 1
    return kept, ids, num_dropped


class PrintedAnswer:
    """A streamer for `generate`: prints the answer as it grows, whole characters only."""

    def __init__(self, decode: Callable[[list[int]], str], write: Callable[[str], Any]) -> None:
        self.decode = decode
        self.write = write
        self.ids: list[int] = []
        self.text = ""
        self.is_prompt = True

    def put(self, value: torch.Tensor) -> None:
        if self.is_prompt:  # `generate` sends the prompt first
            self.is_prompt = False
            return
        self.ids += value.flatten().tolist()
        text = self.decode(self.ids)
        if text.startswith(self.text):
            self.write(text[len(self.text) :])
            self.text = text

    def end(self) -> None:
        self.write("\n")

    def is_whole(self, stops: Sequence[int], *, longest: int) -> bool:
        """Whether the answer came to its end, or to somebody's, before it had `longest` tokens."""
        return len(self.ids) < longest or self.ids[-1] in stops


def chat(arguments: argparse.Namespace, subject: Subject) -> None:
    """Load the model and answer line by line."""
    loaded = subject.load()
    session = ChatSession()
    print(f"{subject.title}; /help lists the commands")
    for line in read_lines():
        if line.startswith("/"):
            if line in ("/exit", "/quit"):
                break
            print(session.act(line))
            continue
        session.messages.append(Message("user", line))
        answer = answer_last(loaded, session, temperature=arguments.temperature)
        if answer is None:
            session.messages.pop()
        else:
            session.messages.append(Message("assistant", answer))


def answer_last(loaded: Answering, session: ChatSession, *, temperature: float) -> str | None:
    """Generate and print the answer to the last question; Ctrl-C keeps what there is of it.

    None: the question is longer than what is remembered; that was said, and nothing was asked.
    """
    import torch
    from transformers import GenerationConfig

    from glm_experiments.data.answers import decode_answer, stop_token_ids
    from glm_experiments.data.prompts import encode_prompt
    from glm_experiments.evaluation.generation import lengths_that_grow, own_settings

    config, tokenizer = loaded.parts.config, loaded.parts.tokenizer
    form, longest = config.data.prompt_format, config.data.context_length
    encode = functools.partial(encode_prompt, tokenizer, prompt_format=form)
    messages, ids, num_dropped = drop_oldest_turns(session.messages, encode=encode, longest=longest)
    if len(ids) > longest:
        print(
            f"[not asked: these are {len(ids)} tokens, and data.context_length={longest}; "
            "say less, or start with a larger data.context_length]"
        )
        return None
    if num_dropped:
        session.messages = messages
        print(f"[data.context_length={longest}: the oldest turns are forgotten]")
    prompt = torch.tensor([ids], device=loaded.model.device)
    shown = PrintedAnswer(
        lambda given: decode_answer(tokenizer, given, prompt_format=form), write_now
    )
    stops = stop_token_ids(tokenizer, prompt_format=form)
    settings = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=temperature > 0,
        temperature=temperature or None,
        max_new_tokens=config.evaluation.max_new_tokens,
        eos_token_id=stops,
        pad_token_id=tokenizer.pad_token_id,
    )
    try:
        with own_settings(loaded.model, settings) as model, lengths_that_grow():
            model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                generation_config=settings,
                streamer=shown,
            )
    except KeyboardInterrupt as error:
        if signal_of(error) is not signal.SIGINT:  # that ends more than an answer
            raise
        write_now(" [stopped]\n")
    else:
        if not shown.is_whole(stops, longest=settings.max_new_tokens):
            print(f"[cut off: evaluation.max_new_tokens={settings.max_new_tokens}]")
    return shown.text


def write_now(text: str) -> None:
    """Print without waiting for a whole line."""
    sys.stdout.write(text)
    sys.stdout.flush()


def read_lines() -> Iterator[str]:
    """Lines that the user types, blank ones left out, until the end of input.

    At a terminal Ctrl-C takes back what was being typed, and says how to leave.
    """
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # bytes that are no text, from a pipe or a paste
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        with suppress(ImportError):  # there is none on some systems
            import readline  # noqa: F401 lets `input` edit a line, and recall earlier ones
    while True:
        try:
            line = input("> " if is_terminal else "").strip()
        except EOFError:
            print()
            return
        except KeyboardInterrupt as error:
            if not is_terminal or signal_of(error) is not signal.SIGINT:
                raise
            print("\n[to leave, type /exit or press Ctrl-D]")
            continue
        if line:
            yield line


def main() -> None:
    """Console entry point."""
    parser = build_subject_parser("glm-chat", DESCRIPTION)
    parser.add_argument(
        "--temperature", type=float, default=0.0, metavar="T", help="0 (default): greedy"
    )
    run_command(parser, chat, prepare=find_subject)


if __name__ == "__main__":
    main()
