"""Splits to token ids: what is trained, what is cut or dropped, and that nothing is done twice."""

import ast
import inspect
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glm_experiments.data import tokenisation
from glm_experiments.data.answers import encode_answer
from glm_experiments.data.conversations import Conversation, Message, PlainText
from glm_experiments.data.encoding import EncodedSplits, encode_splits, hash_measured
from glm_experiments.data.packing import PackedSamples
from glm_experiments.data.prompts import encode_prompt
from glm_experiments.data.rejections import ReadReport
from glm_experiments.data.splits import Splits, fingerprint_samples, load_splits
from glm_experiments.labels import IGNORED
from tests.data.configs import files_config
from tests.shared_data import SHARED, needs_shared
from tests.tiny_tokenizers import tiny_tokenizer


def talk(*texts: str, line: int = 1, system: str | None = None) -> Conversation:
    roles: list[Any] = ["user", "assistant"] * len(texts)
    messages = [Message(role, text) for role, text in zip(roles, texts, strict=False)]
    if system is not None:
        messages.insert(0, Message("system", system))
    return Conversation(tuple(messages), "a.jsonl", line)


def build_splits(
    folder: Path,
    train: Sequence[Conversation | PlainText],
    validation: Sequence[Conversation | PlainText] = (),
) -> Splits:
    sets = {"validation": list(validation)} if validation else {}
    report = ReadReport(len(train) + len(validation), (), folder / "rejected.jsonl")
    return Splits(list(train), sets, report, fingerprint_samples([train, *sets.values()]))


def encode(
    folder: Path,
    splits: Splits,
    *,
    generation: str = "chatglm3",
    longest: int | None = None,
    **changes: Any,
) -> EncodedSplits:
    cache = str(folder / "cache")
    config = files_config("a.jsonl", prompt_format=generation, cache_dir=cache, **changes)
    return encode_splits(splits, tiny_tokenizer(generation), config=config, longest=longest)


@pytest.mark.parametrize("generation", ["chatglm", "chatglm2", "chatglm3", "glm4"])
def test_the_answer_is_trained_and_the_question_masked(tmp_path: Path, generation: str) -> None:
    tokenizer = tiny_tokenizer(generation)
    row = talk("Who are you?", "I am an assistant.")
    encoded = encode(tmp_path, build_splits(tmp_path, [row], [row]), generation=generation)
    prompt = encode_prompt(tokenizer, row.messages[:1], prompt_format=generation)
    answer = encode_answer(tokenizer, row.messages[1].content, prompt_format=generation)
    item = encoded.train[0]
    assert item["input_ids"] == prompt + answer
    assert item["labels"] == [IGNORED] * len(prompt) + answer
    validation = encoded.validation["validation"]
    assert validation.samples[0] == item
    [question] = validation.questions
    assert question.prompt_ids == prompt
    assert question.reference == "I am an assistant."
    assert "Who are you?" in question.question
    assert question.kind is None


def test_turns_are_samples_where_the_prompt_is_one_text(tmp_path: Path) -> None:
    row = talk("Who are you?", "I am", "Who?", "an assistant.")
    splits = build_splits(tmp_path, [row], [row])
    one_text = encode(tmp_path, splits, generation="chatglm2")
    assert len(one_text.train) == 2
    assert one_text.counts["train"]["rows"] == 1
    assert one_text.counts["train"]["samples"] == 2
    # One question a conversation, the last one with all that was said before.
    [question] = one_text.validation["validation"].questions
    tokenizer = tiny_tokenizer("chatglm2")
    assert question.prompt_ids == encode_prompt(
        tokenizer, row.messages[:3], prompt_format="chatglm2"
    )
    assert question.reference == "an assistant."
    assert len(encode(tmp_path, splits, generation="chatglm2", train_on="last_turn").train) == 1
    with_roles = encode(tmp_path, splits)
    last_only = encode(tmp_path, splits, train_on="last_turn")
    assert len(with_roles.train) == len(last_only.train) == 1
    num_trained = [
        sum(label != IGNORED for label in each.train[0]["labels"])
        for each in (with_roles, last_only)
    ]
    assert num_trained[0] > num_trained[1] > 0


def test_plain_text_is_trained_in_pieces_and_asks_nothing(tmp_path: Path) -> None:
    text = PlainText("Who are you? " * 30, "a.txt", 1)
    encoded = encode(tmp_path, build_splits(tmp_path, [text], [text]), context_length=32)
    assert len(encoded.train) > 3
    assert all(len(item["input_ids"]) <= 32 for item in encoded.train)
    assert all(item["labels"][0] == IGNORED for item in encoded.train)
    validation = encoded.validation["validation"]
    assert validation.questions == []
    assert len(validation.samples) == len(encoded.train)


def test_a_long_context_is_cut_in_the_middle_and_counted(tmp_path: Path) -> None:
    rows = [talk("Who are you? " * 40, "I am."), talk("Who?", "I am.")]
    encoded = encode(tmp_path, build_splits(tmp_path, rows, rows[:1]), context_length=40)
    tokenizer = tiny_tokenizer("chatglm3")
    whole = encode_prompt(tokenizer, rows[0].messages[:1], prompt_format="chatglm3")
    answer = encode_answer(tokenizer, "I am.", prompt_format="chatglm3")
    item = encoded.train[0]
    assert len(item["input_ids"]) == 40
    assert item["input_ids"][-len(answer) :] == answer
    assert item["input_ids"][: 40 - len(answer)][:3] == whole[:3]
    assert item["input_ids"][: 40 - len(answer)][-3:] == whole[-3:]
    assert encoded.counts["train"]["truncated_samples"] == 1
    assert encoded.counts["train"]["cut_tokens"] == len(whole) + len(answer) - 40
    # What is held out is asked and measured whole, up to what the model can take.
    validation = encoded.validation["validation"]
    assert validation.questions[0].prompt_ids == whole
    assert validation.samples[0]["input_ids"] == whole + answer
    short = encode(tmp_path, build_splits(tmp_path, rows, rows[:1]), longest=50)
    assert len(short.validation["validation"].samples[0]["input_ids"]) == 50


def with_a_long_answer(folder: Path) -> Splits:
    """Ten rows, the fifth of which has a long answer; it is held out as well."""
    rows = [talk("Who?", "I am.", line=n) for n in range(1, 10)]
    rows.insert(4, talk("Who?", "I am. " * 50, line=77))
    return build_splits(folder, rows, rows[4:6])


def test_of_a_long_answer_what_fits_trains_without_an_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    splits = with_a_long_answer(tmp_path)
    whole = encode(tmp_path, splits, context_length=1000)
    assert whole.counts["train"]["cut_answers"] == 0
    for num_cached in range(2):
        caplog.clear()
        caplog.set_level(logging.INFO)
        cut = encode(tmp_path, splits, context_length=40)
        said = "1 of 10 training answers (10.0%) are longer than data.context_length=40 allows"
        assert said in caplog.text
        assert num_cached == 0 or "taken from" in caplog.text
    assert cut.counts["dropped"] == {}
    counts = cut.counts["train"]
    assert (counts["cut_answers"], counts["cut_answer_share"], counts["rows"]) == (1, 0.1, 10)
    item, uncut = cut.train[4], whole.train[4]
    assert len(item["input_ids"]) == 40
    trained = [label for label in item["labels"] if label != IGNORED]
    wanted = [label for label in uncut["labels"] if label != IGNORED]
    assert trained == wanted[: len(trained)] != wanted
    assert wanted[-1] not in trained  # the end
    # The same rows, and measured by the same.
    assert cut.trained_fingerprint == whole.trained_fingerprint
    assert hash_measured(cut.validation["validation"], num_questions=None) == hash_measured(
        whole.validation["validation"], num_questions=None
    )


def test_a_row_with_a_long_answer_can_be_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    splits = with_a_long_answer(tmp_path)
    settings = {"context_length": 40, "long_answers": "leave_out"}
    # It is no broken row.
    encoded = encode(tmp_path, splits, **settings, max_bad_share=0, on_bad_row="error")
    assert len(encoded.train) == encoded.counts["train"]["rows"] == 9
    assert encoded.counts["dropped"] == {"answer longer than the context": 1}
    assert encoded.counts["read"] == 12
    [line] = (tmp_path / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    rejected = json.loads(line)
    assert (rejected["file"], rejected["line"]) == ("a.jsonl", 77)
    assert rejected["reason"].startswith("answer longer than the context: ")
    assert "1 of 10 rows (10.0%) have an answer that is longer than" in caplog.text
    # Other rows train, and the same are measured.
    whole = encode(tmp_path, splits, context_length=1000, long_answers="leave_out")
    assert encoded.trained_fingerprint != whole.trained_fingerprint
    for each in (encoded, whole):
        assert len(each.validation["validation"].samples) == 2
    only = build_splits(tmp_path, splits.train[4:5])
    with pytest.raises(ValueError, match=r"1 of 1 rows .* none is left; type data.context_length="):
        encode(tmp_path, only, **settings)


def test_a_long_answer_can_stop_the_run(tmp_path: Path) -> None:
    splits = with_a_long_answer(tmp_path)
    settings = {"long_answers": "stop"}
    with pytest.raises(ValueError, match=r"1 of 10 rows .*; the first: a.jsonl, line 77") as error:
        encode(tmp_path, splits, context_length=40, **settings)
    # The advice of the message helps.
    needed = int(str(error.value).split("type data.context_length=")[1].split()[0])
    assert encode(tmp_path, splits, context_length=needed, **settings).counts["dropped"] == {}
    with pytest.raises(ValueError, match="1 of 10 rows"):
        encode(tmp_path, splits, context_length=needed - 1, **settings)


def test_what_is_measured_is_told_apart(tmp_path: Path) -> None:
    rows = [talk("Who?", "I am."), talk("Where?", "Here.")]

    def hashes(*held_out: Conversation, num_questions: int | None = None) -> dict[str, str]:
        encoded = encode(tmp_path, build_splits(tmp_path, rows, held_out))
        return hash_measured(encoded.validation["validation"], num_questions=num_questions)

    both = hashes(*rows)
    assert hashes(*rows) == both
    assert all(hashes(rows[0])[key] != both[key] for key in both)
    fewer = hashes(*rows, num_questions=1)
    assert fewer["tokens"] == both["tokens"]
    assert fewer["questions"] == hashes(rows[0])["questions"] != both["questions"]


def test_a_conversation_that_the_format_cannot_express_is_a_bad_row(tmp_path: Path) -> None:
    tools = Conversation(
        (
            Message("user", "q"),
            Message("assistant", "a"),
            Message("observation", "o"),
            Message("assistant", "a"),
        ),
        "a.jsonl",
        3,
    )
    splits = build_splits(tmp_path, [talk("Who?", "I."), tools])
    assert len(encode(tmp_path, splits).train) == 2
    encoded = encode(tmp_path, splits, generation="chatglm2", max_bad_share=0.5)
    assert encoded.counts["dropped"] == {"not expressible in chatglm2": 1}
    rejected = json.loads((tmp_path / "rejected.jsonl").read_text(encoding="utf-8"))
    assert rejected["line"] == 3
    assert "observation" in rejected["reason"]
    assert "a.jsonl" not in rejected["reason"]


def test_a_tokenizer_of_another_generation_is_no_fault_of_the_rows(tmp_path: Path) -> None:
    splits = build_splits(tmp_path, [talk("Who?", "I.")])
    config = files_config("a.jsonl", prompt_format="glm4")
    with pytest.raises(ValueError, match=r"the tokenizer .* lacks"):
        encode_splits(splits, tiny_tokenizer("chatglm2"), config=config, longest=None)


class CountingTokenizer:
    """A real tokenizer that counts how often it is asked to encode."""

    def __init__(self) -> None:
        self.tokenizer = tiny_tokenizer("chatglm3")
        self.num_calls = 0

    def encode(self, *args: Any, **settings: Any) -> Any:
        self.num_calls += 1
        return self.tokenizer.encode(*args, **settings)

    def __len__(self) -> int:
        return len(self.tokenizer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)


def test_nothing_is_encoded_twice(tmp_path: Path) -> None:
    rows = [talk(f"Who? {n}", f"I am {n}.", line=n) for n in range(1, 300)]
    splits = build_splits(tmp_path, rows, rows[:10])

    def count_calls(splits: Splits = splits, **changes: Any) -> tuple[int, EncodedSplits]:
        tokenizer = CountingTokenizer()
        config = files_config("a.jsonl", cache_dir=str(tmp_path / "cache"), **changes)
        encoded = encode_splits(splits, tokenizer, config=config, longest=None)
        return tokenizer.num_calls, encoded

    first, encoded = count_calls()
    assert first > 300
    again, cached = count_calls()
    assert again < 10
    assert list(cached.train) == list(encoded.train)
    assert cached.validation["validation"].questions == encoded.validation["validation"].questions
    assert cached.counts == encoded.counts
    # What does not change the ids is no reason to encode, what does is.
    assert count_calls(packing=True)[0] < 10
    assert count_calls(max_bad_share=0.5)[0] < 10
    assert count_calls(train_on="last_turn")[0] > 300
    assert count_calls(context_length=100)[0] > 300
    assert count_calls(build_splits(tmp_path, rows[1:]))[0] > 300
    renamed = [replace(row, file="b.jsonl") for row in rows]
    assert count_calls(build_splits(tmp_path, renamed, renamed[:10]))[0] < 10
    # A damaged file is made again.
    for file in (tmp_path / "cache").glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-3])
    rebuilt, encoded = count_calls()
    assert rebuilt > 300
    assert list(cached.train) == list(encoded.train)
    assert count_calls()[0] < 10


def test_another_vocabulary_is_another_cache(tmp_path: Path) -> None:
    splits = build_splits(tmp_path, [talk("Who?", "I.")])
    for generation in ("chatglm2", "chatglm3"):
        encode(tmp_path, splits, generation=generation)
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) == 2


def test_other_encoding_code_is_another_cache() -> None:
    """Nothing of data decides token ids unseen: the modules that do know no others."""
    names = {module.__name__ for module in tokenisation.ENCODING_CODE}
    assert names
    found = set()
    for module in tokenisation.ENCODING_CODE:
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
    ours = {name for name in found if name.startswith("glm_experiments.data")}
    assert ours - names == {"glm_experiments.data.conversations"}


def test_several_processes_encode_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Conversation | PlainText] = [talk("Who?", f"{n} am", line=n) for n in range(1, 200)]
    rows.insert(150, talk("Who?", "I am. " * 50, line=777))
    splits = build_splits(tmp_path, rows)
    settings = {"context_length": 40, "long_answers": "leave_out"}
    alone = encode(tmp_path / "alone", splits, **settings)
    monkeypatch.setattr(tokenisation, "NUM_ROWS_A_PIECE", 16)
    monkeypatch.setattr(tokenisation, "NUM_ROWS_FOR_PROCESSES", 50)
    monkeypatch.setattr(tokenisation.os, "cpu_count", lambda: 2)
    together = encode(tmp_path / "together", splits, **settings)
    assert list(together.train) == list(alone.train)
    assert together.counts == alone.counts
    assert '"line": 777' in (tmp_path / "rejected.jsonl").read_text(encoding="utf-8")


def test_packing(tmp_path: Path) -> None:
    rows = [talk("Who? " * (n % 7 + 1), f"I am {n}.", line=n) for n in range(1, 100)]
    splits = build_splits(tmp_path, rows, rows[:5])
    plain = encode(tmp_path, splits, context_length=64)
    packed = encode(tmp_path, splits, context_length=64, packing=True)
    assert isinstance(packed.train, PackedSamples)
    counts = packed.counts["train"]
    assert counts["packed_rows"] == len(packed.train) < 99
    assert counts["packed_share"] > 0.85
    assert max(len(row["input_ids"]) for row in packed.train) <= 64
    samples = []
    for row in packed.train:
        starts = [n for n, position in enumerate(row["position_ids"]) if position == 0]
        for begin, end in zip(starts, [*starts[1:], len(row["input_ids"])], strict=True):
            samples.append((row["input_ids"][begin:end], row["labels"][begin:end]))
    assert sorted(samples) == sorted((item["input_ids"], item["labels"]) for item in plain.train)
    assert packed.validation["validation"].samples[0] == plain.validation["validation"].samples[0]


def test_counts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    row = talk("Who are you?", "I am.")
    encoded = encode(tmp_path, build_splits(tmp_path, [row, row], [row]))
    item = encoded.train[0]
    assert encoded.counts["train"] == {
        "rows": 2,
        "samples": 2,
        "tokens": 2 * len(item["input_ids"]),
        "trained_tokens": 2 * sum(label != IGNORED for label in item["labels"]),
        "truncated_samples": 0,
        "cut_tokens": 0,
        "cut_answers": 0,
        "cut_answer_share": 0.0,
    }
    assert encoded.counts["validation"]["rows"] == 1
    assert encoded.counts["read"] == 3
    assert "train: 2 rows, 2 samples" in caplog.text


def test_samples_are_a_sequence(tmp_path: Path) -> None:
    rows = [talk("Who?", f"{n}", line=n) for n in range(1, 6)]
    train = encode(tmp_path, build_splits(tmp_path, rows)).train
    assert len(train) == 5
    assert train[-1] == train[4]
    assert train[1:3] == [train[1], train[2]]
    with pytest.raises(IndexError):
        train[5]


@needs_shared
def test_published_files(tmp_path: Path) -> None:
    """The two data sets of the README, with a vocabulary that spells most characters in bytes."""
    tokenizer = tiny_tokenizer("chatglm3")
    for name, num_train in (("adgen_dev.jsonl", 600), ("alpaca_zh.json", 3143)):
        config = files_config(
            str(SHARED / "data" / name), num_validation_rows=100, context_length=3000
        )
        splits = load_splits(config, rejected_file=tmp_path / "rejected.jsonl")
        encoded = encode_splits(splits, tokenizer, config=config, longest=None)
        assert len(encoded.train) == num_train
        assert len(encoded.validation["validation"].questions) == 100
