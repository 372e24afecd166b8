"""From files and generators to samples: sources, splits, rejected rows, fingerprints."""

import json
import logging
import re
import time
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from glm_experiments.data.answers import decode_answer
from glm_experiments.data.conversations import Conversation, PlainText
from glm_experiments.data.encoding import encode_splits
from glm_experiments.data.generated import IDENTITY_KINDS
from glm_experiments.data.prompts import encode_prompt
from glm_experiments.data.splits import Splits, load_splits
from glm_experiments.labels import IGNORED
from glm_experiments.models import load_tokenizer
from tests.data.configs import data_config, files_config
from tests.shared_data import SHARED, needs_shared

BAD_ROWS = {
    '{"prompt": "q", "response": "a"': "broken JSON: ",
    '{"prompt": "q", "response": null}': "null answer: 'response' is null",
    '{"prompt": "q", "response": ""}': "empty answer: 'response' is empty",
    '{"prompt": "q", "response": 7}': "answer is no text: 'response' is a number",
    '{"prompt": "q", "respones": "a"}': "missing column: there is no 'response' "
    "(nearest: 'respones')",
}


def load(folder: Path, config: Any) -> Splits:
    return load_splits(config, rejected_file=folder / "run" / "rejected.jsonl")


def write_rows(file: Path, num_rows: int, *, bad: Sequence[str] = (), start: int = 0) -> str:
    """`num_rows` good rows and the bad ones in between, from line 2 on."""
    lines = [
        json.dumps({"prompt": f"q{n}", "response": f"a{n}"}) for n in range(start, start + num_rows)
    ]
    lines[1:1] = bad
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(file)


def prompts(samples: Sequence[Conversation | PlainText]) -> list[str]:
    return [
        sample.messages[0].content if isinstance(sample, Conversation) else sample.text
        for sample in samples
    ]


def test_a_seeded_split(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", 50)
    splits = load(tmp_path, files_config(path, num_validation_rows=10))
    train, validation = prompts(splits.train), prompts(splits.validation["validation"])
    assert (len(train), len(validation)) == (40, 10)
    assert sorted(train + validation) == sorted(f"q{n}" for n in range(50))
    assert train == sorted(train, key=lambda name: int(name[1:]))
    assert splits.train[0].file == path
    again = load(tmp_path, files_config(path, num_validation_rows=10))
    assert again == splits
    other = load(tmp_path, files_config(path, num_validation_rows=10, split_seed=1))
    assert prompts(other.validation["validation"]) != validation
    assert other.fingerprint != splits.fingerprint
    # Fewer training rows leave the validation rows as they are.
    few = load(tmp_path, files_config(path, num_validation_rows=10, num_train_rows=5))
    assert few.validation == splits.validation
    assert len(few.train) == 5
    assert set(prompts(few.train)) < set(train)
    assert few.report.num_rows == 50


def test_no_validation(tmp_path: Path) -> None:
    splits = load(tmp_path, files_config(write_rows(tmp_path / "a.jsonl", 3)))
    assert splits.validation == {}
    assert len(splits.train) == 3


def test_validation_from_a_source_of_its_own(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", 20)
    held_out = write_rows(tmp_path / "b.jsonl", 8, start=100)
    config = files_config(path, validation_path=held_out, num_validation_rows=5)
    splits = load(tmp_path, config)
    assert len(splits.train) == 20
    assert len(splits.validation["validation"]) == 5
    assert {sample.file for sample in splits.validation["validation"]} == {held_out}
    everything = load(tmp_path, files_config(path, validation_path=held_out))
    assert len(everything.validation["validation"]) == 8
    with pytest.raises(
        ValueError, match=r"num_validation_rows=9, but .*b\.jsonl has 8 usable"
    ) as e:
        load(tmp_path, files_config(path, validation_path=held_out, num_validation_rows=9))
    assert "type data.num_validation_rows=8" in str(e.value)


def test_a_source_on_both_sides_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_rows(tmp_path / "a.jsonl", 20)
    load(tmp_path, files_config(path, validation_path=path))
    assert "a.jsonl is both trained on and held out" in caplog.text


def test_more_validation_rows_than_there_are(tmp_path: Path) -> None:
    for num_rows, typed in ((10, "data.num_validation_rows=2, or "), (1, "")):
        path = write_rows(tmp_path / "a.jsonl", num_rows)
        with pytest.raises(
            ValueError, match=rf"data\.num_validation_rows=10 .* {num_rows} usable rows"
        ) as error:
            load(tmp_path, files_config(path, num_validation_rows=10))
        assert str(error.value).endswith(f"; type e.g. {typed}data.validation_path=FILE")


def test_several_files_and_globs_each_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = write_rows(tmp_path / "a.jsonl", 2)
    write_rows(tmp_path / "b.jsonl", 2, start=10)
    (tmp_path / "c.csv").write_text("question,answer\nx,y\n")
    (tmp_path / "d.jsonl").mkdir()
    caplog.set_level(logging.INFO)
    splits = load(
        tmp_path, files_config([str(tmp_path / "*.jsonl"), first, str(tmp_path / "c.csv")])
    )
    assert prompts(splits.train) == ["q0", "q1", "q10", "q11", "x"]
    assert "c.csv has the form prompt_response (columns question, answer), detected" in caplog.text


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("gone.jsonl", r"data\.path=gone\.jsonl: there is no such file"),
        ("no/*.json", r"there is no such file"),
        ("../gone", r"there is no such file"),
        ("folder", r"data\.path=folder is a folder; type .* 'data\.path=folder/\*\.jsonl'"),
        ("a.parquet", r"a\.parquet is of no known kind; .* \.json, \.jsonl, \.csv, \.tsv, \.txt"),
    ],
)
def test_paths_that_lead_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=words):
        load(tmp_path, files_config(path))


def test_bad_rows_are_left_out_and_written_down(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", 20, bad=list(BAD_ROWS))
    splits = load(tmp_path, files_config(path, max_bad_share=0.2))
    assert len(splits.train) == 20
    assert splits.report.num_rows == 25
    assert splits.report.count_dropped() == {
        "broken JSON": 1,
        "null answer": 1,
        "empty answer": 1,
        "answer is no text": 1,
        "missing column": 1,
    }
    lines = (tmp_path / "run" / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    rejected = [json.loads(line) for line in lines]
    assert [row["line"] for row in rejected] == [2, 3, 4, 5, 6]
    assert {row["file"] for row in rejected} == {path}
    for row, reason in zip(rejected, BAD_ROWS.values(), strict=True):
        assert row["reason"].startswith(reason)
    # Without bad rows there is no such file, not even an earlier one.
    load(tmp_path, files_config(write_rows(tmp_path / "a.jsonl", 20)))
    assert not list((tmp_path / "run").iterdir())


def test_too_many_bad_rows_stop(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", 20, bad=list(BAD_ROWS))
    with pytest.raises(
        ValueError, match=r"20\.0% of the rows .* data\.max_bad_share=0\.01"
    ) as error:
        load(tmp_path, files_config(path))
    message = str(error.value)
    assert f"{path}, line 3: null answer: 'response' is null" in message
    assert "1 x broken JSON" in message
    assert message.endswith("type data.max_bad_share=0.2")
    assert (tmp_path / "run" / "rejected.jsonl").exists()
    load(tmp_path, files_config(path, max_bad_share=0.2))


def test_a_bad_row_in_a_hundred_is_not_too_many(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", 99, bad=["{"])
    assert len(load(tmp_path, files_config(path)).train) == 99


@pytest.mark.parametrize(("row", "reason"), BAD_ROWS.items())
def test_the_first_bad_row_stops_on_request(tmp_path: Path, row: str, reason: str) -> None:
    path = write_rows(tmp_path / "a.jsonl", 200, bad=[row])
    pattern = rf"^{re.escape(path)}, line 2: {re.escape(reason)}"
    with pytest.raises(ValueError, match=pattern) as error:
        load(tmp_path, files_config(path, on_bad_row="error"))
    assert "type data.on_bad_row=skip" in str(error.value)


def test_a_file_of_bad_rows_only(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", 0, bad=["{", "}"])
    with pytest.raises(ValueError, match=r"a\.jsonl has no readable row: line 1: broken JSON"):
        load(tmp_path, files_config(path, max_bad_share=1))
    path = write_rows(tmp_path / "a.jsonl", 0, bad=['{"prompt": "q", "response": ""}'])
    with pytest.raises(ValueError, match=r"has no usable row: 1 x empty answer"):
        load(tmp_path, files_config(path, max_bad_share=1))


def test_a_row_of_another_form_is_a_bad_row(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", 200, bad=['{"text": "t"}'])
    splits = load(tmp_path, files_config(path))
    assert splits.report.rejections[0].reason == "missing column"


def test_texts(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo\n", encoding="utf-8")
    splits = load(tmp_path, files_config(str(tmp_path / "a.txt")))
    file = str(tmp_path / "a.txt")
    assert splits.train == [PlainText("one", file, 1), PlainText("two", file, 3)]


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    first = load(tmp_path, files_config(write_rows(tmp_path / "a.jsonl", 5)))
    renamed = load(tmp_path, files_config(write_rows(tmp_path / "b.jsonl", 5)))
    changed = load(tmp_path, files_config(write_rows(tmp_path / "c.jsonl", 5, start=1)))
    assert first.fingerprint == renamed.fingerprint != changed.fingerprint


@pytest.mark.parametrize("option", ["files", "general", "identity"])
def test_the_sets_that_are_held_out_are_those_that_the_option_names(
    option: str, tmp_path: Path
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "a", "response": "b"}\n' * 9, encoding="utf-8")
    changes = {"path": str(file)} if option == "files" else {"num_train_rows": 5}
    config = data_config(option, num_validation_rows=2, **changes)
    splits = load_splits(config, rejected_file=tmp_path / "rejected.jsonl")
    assert tuple(splits.validation) == config.validation_sets


def test_general_questions() -> None:
    config = data_config("general", num_train_rows=50, num_validation_rows=20)
    splits = load_splits(config, rejected_file=Path("rejected.jsonl"))
    assert (len(splits.train), len(splits.validation["general"])) == (50, 20)
    assert list(splits.validation) == ["general", "second_turns"]
    assert splits.report.num_rows == 90
    assert all(isinstance(row, Conversation) and row.kind for row in splits.train)
    assert splits.train[3].line == 4
    assert splits.train[3].file == "generated general questions"
    with pytest.raises(ValueError, match=r"type e\.g\. data\.num_train_rows=10000"):
        load_splits(data_config("general", num_train_rows=None), rejected_file=Path("r"))


def test_identity_questions_with_replay() -> None:
    def load_with(**changes: Any) -> Splits:
        return load_splits(data_config("identity", **changes), rejected_file=Path("r"))

    splits = load_with(assistant_name="Bo", author="Ty", num_validation_rows=12)
    assert list(splits.validation) == ["identity", "general", "second_turns"]
    assert [len(rows) for rows in splits.validation.values()] == [12, 12, 12]
    answers = [row.messages[-1].content for row in splits.train if isinstance(row, Conversation)]
    assert all("Bo" in answer or "Ty" in answer for answer in answers)
    replaying = load_with(num_train_rows=100, replay_share=0.25)
    kinds = [row.kind for row in replaying.train if isinstance(row, Conversation)]
    own = [kind in ("name", "author", "name_and_author") for kind in kinds]
    assert (len(kinds), sum(own)) == (100, 75)
    assert "identity" not in kinds
    assert 5 < sum(own[:50]) < 50
    for num_rows in (1, 32):
        assert len(load_with(num_train_rows=num_rows, replay_share=0.65).train) == num_rows
    with pytest.raises(ValueError, match=r"data\.num_validation_rows=9999: .* at most \d+"):
        load_with(num_validation_rows=9999)


def test_conversations_of_several_turns() -> None:
    """Second turns are trained and held out, behind the names that are being taught, too."""
    config = data_config(
        "identity", assistant_name="Bo", author="Ty", num_train_rows=400, replay_share=0.5,
        num_validation_rows=60,
    )  # fmt: skip
    splits = load_splits(config, rejected_file=Path("r"))
    turns = {
        name: Counter(len(row.messages) // 2 for row in rows if isinstance(row, Conversation))
        for name, rows in {"train": splits.train, **splits.validation}.items()
    }
    assert turns["identity"] == {1: 30, 2: 30}
    assert turns["general"] == {1: 60}
    assert turns["second_turns"] == {2: 60}
    assert set(turns["train"]) >= {1, 2, 3}
    assert 0.3 < 1 - turns["train"][1] / 400 < 0.6

    def count_after_names(rows: Sequence[Any]) -> int:
        """Questions of another kind that come after an answer with the name."""
        return sum(
            any("Bo" in each.content for each in row.messages[1:-1:2])
            and "Bo" not in row.messages[-1].content
            for row in rows
            if row.kind not in IDENTITY_KINDS
        )

    assert count_after_names(splits.train) > 10
    assert count_after_names(splits.validation["second_turns"]) > 10


@pytest.mark.parametrize(
    ("model", "prompt_format"),
    [("tiny_chatglm", "chatglm"), ("tiny_glm", "chatglm2"), ("tiny_glm", "chatglm3")],
)
def test_every_turn_is_trained_and_the_last_is_asked(model: str, prompt_format: str) -> None:
    tokenizer = load_tokenizer(f"package:{model}")
    config = data_config("general", num_train_rows=40, num_validation_rows=8,
                         prompt_format=prompt_format, context_length=300)  # fmt: skip
    splits = load_splits(config, rejected_file=Path("r"))
    encoded = encode_splits(splits, tokenizer, config=config, longest=None)
    said = [message.content for row in splits.train if isinstance(row, Conversation)
            for message in row.messages[1::2]]  # fmt: skip
    trained: list[str] = []
    for item in encoded.train:
        for is_trained, run in groupby(item["labels"], key=lambda label: label != IGNORED):
            if is_trained:
                trained.append(decode_answer(tokenizer, list(run), prompt_format=prompt_format))
    assert len(said) > 50
    assert trained == said
    for row, question in zip(
        splits.validation["second_turns"], encoded.validation["second_turns"].questions, strict=True
    ):
        assert isinstance(row, Conversation)
        first, answer, second, wanted = (message.content for message in row.messages)
        prompt = tokenizer.decode(question.prompt_ids, skip_special_tokens=True)
        places = [prompt.index(text) for text in (first, answer, second)]
        assert places == sorted(places)
        assert question.reference == wanted
        asked = encode_prompt(tokenizer, row.messages[:-1], prompt_format=prompt_format)
        assert question.prompt_ids == asked  # as in a chat


@needs_shared
def test_published_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    splits = load(tmp_path, files_config(str(SHARED / "data" / "alpaca_zh.json")))
    assert splits.report.num_rows == 3247
    assert splits.report.count_dropped() == {"empty answer": 4}
    assert "alpaca_zh.json has the form alpaca" in caplog.text
    file = SHARED / "data" / "adgen_dev.jsonl"
    splits = load(tmp_path, files_config(str(file), num_validation_rows=100))
    assert (len(splits.train), splits.report.count_dropped()) == (600, {})


@pytest.mark.slow
def test_a_million_rows(tmp_path: Path) -> None:
    row = json.dumps(
        {"instruction": "什么是三原色？", "input": "", "output": "红色、蓝色和黄色。" * 10}
    )
    file = tmp_path / "a.json"
    file.write_text("[\n" + ",\n".join([row] * 1_000_000) + "\n]\n", encoding="utf-8")
    start = time.process_time()
    splits = load(tmp_path, files_config(str(file), num_validation_rows=1000))
    assert len(splits.train) == 999_000
    assert time.process_time() - start < 120
