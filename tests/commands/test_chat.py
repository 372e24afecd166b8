"""glm-chat as typed at its prompt, and the parts of it that a pipe can't show."""

import io
import signal
import sys
from types import SimpleNamespace

import pytest
import torch

from glm_experiments import runs
from glm_experiments.commands import chat
from glm_experiments.commands.chat import ChatSession, PrintedAnswer, drop_oldest_turns
from glm_experiments.data.answers import decode_answer, encode_answer
from glm_experiments.data.conversations import Message
from glm_experiments.models import load_tokenizer


@pytest.fixture
def talk(typed, run_dir, monkeypatch):
    """Type lines into glm-chat; returns what it said, line by line."""

    def type_lines(*lines, arguments=()):
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        done = typed(chat.main, run_dir, *arguments)
        assert done.code == 0, done.err
        return done.out.splitlines()

    return type_lines


def test_questions_are_answered_in_turn(talk):
    said = talk("12+30=?", "", "/history", "/undo", "/history", "/exit", "never read",
                arguments=["evaluation.max_new_tokens=24"])  # fmt: skip
    assert said[0].startswith("tiny_glm, ")
    assert said[0].endswith("adapter; /help lists the commands")
    assert "42" in said[1]
    assert said[2:] == [
        "user: 12+30=?",
        f"assistant: {said[1]}",
        "forgotten: the last question and its answer",
        "nothing was said yet",
    ]


def test_earlier_turns_are_part_of_the_question(talk, monkeypatch):
    from glm_experiments.data import prompts

    asked = []
    encode = prompts.encode_prompt

    def watch(tokenizer, messages, **settings):
        asked.append([(each.role, each.content) for each in messages])
        return encode(tokenizer, messages, **settings)

    monkeypatch.setattr(prompts, "encode_prompt", watch)
    said = talk("/system 你是小智。", "你好", "1+1=?", "/clear", "2+2=?")
    assert said[1] == "started anew"
    assert [role for role, _ in asked[1]] == ["system", "user", "assistant", "user"]
    assert asked[1][0] == ("system", "你是小智。")
    assert asked[1][3] == ("user", "1+1=?")
    assert asked[2] == [("user", "2+2=?")]


def test_the_conversation_that_no_longer_fits_loses_its_oldest_turns(talk):
    lines = [f"{number}+1=?" for number in range(10, 16)]
    said = talk(*lines, "/history", arguments=["data.context_length=40"])
    assert "[data.context_length=40: the oldest turns are forgotten]" in said
    assert "user: 10+1=?" not in said
    assert "user: 15+1=?" in said


def test_help_and_unknown_commands(talk):
    said = talk("/help", "/hlep", "/undo", "/history")
    assert said[1].startswith("/clear ")
    assert any(line.startswith("/exit ") for line in said)
    assert "there is no command /hlep" in said
    assert said[-3:-1] == ["there is nothing to undo", "nothing was said yet"]


def test_a_warm_chat_draws_its_answers(talk):
    assert len(talk("你好", "/exit", arguments=["--temperature", "1.5"])) >= 2


def test_what_is_no_run_ends_with_a_message(typed, tmp_path):
    done = typed(chat.main, tmp_path)
    assert done.code == 1
    assert done.err.startswith(f"glm-chat: {tmp_path} is no run's folder")


# The conversation


def test_undo_keeps_the_instruction():
    session = ChatSession()
    session.act("/system Be brief.")
    session.messages += [Message("user", "a"), Message("assistant", "b")]
    assert session.act("/undo") == "forgotten: the last question and its answer"
    assert session.messages == [Message("system", "Be brief.")]
    assert session.act("/undo") == "there is nothing to undo"
    assert session.act("/history") == "system: Be brief."
    assert session.act("/system") == "started anew"
    assert session.messages == []


def test_the_instruction_and_the_last_question_stay():
    messages = [Message("system", "s" * 5)]
    for number in range(3):
        messages += [Message("user", f"u{number}"), Message("assistant", "a" * 5)]
    messages.append(Message("user", "last!"))

    def encode(given):
        return [0] * sum(len(each.content) for each in given)

    kept, ids, num_dropped = drop_oldest_turns(messages, encode=encode, longest=20)
    assert [each.content for each in kept] == ["s" * 5, "u2", "a" * 5, "last!"]
    assert (len(ids), num_dropped) == (17, 2)
    kept, _, num_dropped = drop_oldest_turns(messages, encode=encode, longest=3)
    assert [each.content for each in kept] == ["s" * 5, "last!"]
    assert num_dropped == 3


# Streaming


def test_half_a_character_waits_for_its_other_half():
    tokenizer = load_tokenizer("package:tiny_glm")
    written = []
    shown = PrintedAnswer(
        lambda ids: decode_answer(tokenizer, ids, prompt_format="chatglm3"), written.append
    )
    shown.put(torch.tensor([[7, 7]]))  # the prompt
    ids = encode_answer(tokenizer, "ok 鑫🎉!", prompt_format="chatglm3")
    assert len(ids) > 10  # rare characters are spelled in bytes
    for index in ids:
        shown.put(torch.tensor([index]))
    shown.end()
    assert [part for part in written if part] == ["o", "k", " 鑫", "🎉", "!", "\n"]
    assert shown.text == "ok 鑫🎉!"


def test_ctrl_c_keeps_what_there_is_of_an_answer(run_dir, monkeypatch, capsys):
    run = runs.load_run(run_dir, config=runs.read_config(run_dir, []), checkpoint="last")
    put = PrintedAnswer.put

    def interrupt(self, value):
        put(self, value)
        if self.text:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(PrintedAnswer, "put", interrupt)
    session = ChatSession()
    session.messages = [Message("user", "你好")]
    answer = chat.answer_last(run, session, temperature=0.0)
    assert answer
    assert capsys.readouterr().out == f"{answer} [stopped]\n"


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("place", ["answer", "prompt"])
def test_what_ends_a_program_ends_a_chat(signum, code, place, typed, run_dir, monkeypatch):
    def stop(*_):
        signal.raise_signal(signum)

    if place == "answer":
        monkeypatch.setattr(PrintedAnswer, "put", stop)
        monkeypatch.setattr(sys, "stdin", io.StringIO("a\nb\n"))
    else:
        monkeypatch.setattr("builtins.input", stop)
    done = typed(chat.main, run_dir)
    assert (done.code, done.err.endswith("glm-chat: interrupted\n")) == (code, True)


def test_bytes_that_are_no_text_are_read_all_the_same(monkeypatch):
    typed = io.TextIOWrapper(io.BytesIO(b"1+1=\xff?\n"), encoding="utf-8", errors="strict")
    monkeypatch.setattr(sys, "stdin", typed)
    assert list(chat.read_lines()) == ["1+1=\ufffd?"]


def test_ctrl_c_at_the_prompt_says_how_to_leave_and_ctrl_d_leaves(monkeypatch, capsys):
    typed = iter([KeyboardInterrupt, "1+1=?", KeyboardInterrupt, EOFError])

    def answer_prompt(prompt):
        assert prompt == "> "
        if isinstance(each := next(typed), str):
            return each
        raise each

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("builtins.input", answer_prompt)
    assert list(chat.read_lines()) == ["1+1=?"]
    said = "\n[to leave, type /exit or press Ctrl-D]\n"
    assert capsys.readouterr().out == f"{said}{said}\n"


def test_ctrl_c_ends_a_chat_that_a_pipe_types(typed, run_dir, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda _: signal.raise_signal(signal.SIGINT))
    done = typed(chat.main, run_dir)
    assert (done.code, done.err.endswith("glm-chat: interrupted\n")) == (130, True)


def test_a_line_that_no_context_holds_is_refused_at_once(talk):
    said = talk("1+1=?", "问题" * 30_000, "/history", "2+2=?", "/history")
    (place,) = (place for place, line in enumerate(said) if line.startswith("[not asked: "))
    assert said[place].endswith(" tokens, and data.context_length=160; say less, or start with a "
                                "larger data.context_length]")  # fmt: skip
    asked = [line for line in said if line.startswith("user: ")]
    assert asked == ["user: 1+1=?", "user: 1+1=?", "user: 2+2=?"]


def test_an_answer_that_is_cut_off_says_so(talk):
    said = talk('Repeat "xkcd-9182736".', "12+30=?", arguments=["evaluation.max_new_tokens=6"])
    assert said[2:] == ["[cut off: evaluation.max_new_tokens=6]", "42", ""]


# Without a run


def test_a_model_that_is_not_tuned_answers(typed, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO("12+30=?\n"))
    done = typed(chat.main, "model=tiny_chatglm", "evaluation.max_new_tokens=8")
    assert done.code == 0, done.err
    assert done.out.splitlines()[:2] == ["tiny_chatglm, not tuned; /help lists the commands", "42"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "type a run's folder, one that glm-export wrote, or e.g. model=tiny_glm"),
        (["tiny_glm"], "there is no folder tiny_glm; type model=tiny_glm for the model, not tuned"),
        (["model=tiny_gml"], "- model=tiny_gml is no option of model; type model=tiny_glm"),
        (["model=tiny_glm", "tuner=full"], "- tuner=full: nothing is tuned here; leave it out"),
        (["model=tiny_glm", "hydra.run.dir=a", "training.lr=1"], "- hydra.run.dir=a: that is for "
         "glm-train; leave it out\n- there is no key training.lr; "),
        (["model=tiny_glm", "--checkpoint", "2"], "--checkpoint 2: a model that is not tuned has "
         "one state; leave it out, or type the folder of a run"),
        (["experiment=pretrain_tiny_glm"], "model.weights=random of tiny_glm answers nothing; "
         "type the folder of a run that trained it, or model.weights=pretrained"),
    ],
)  # fmt: skip
def test_what_is_no_model_ends_with_a_message(words, problem, typed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = typed(chat.main, *words)
    assert done.code == 1
    assert done.err.startswith(f"glm-chat: {problem}")
