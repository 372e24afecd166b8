"""What a reader sees of two samples: every token, what is trained, in straight columns."""

from pathlib import Path

from rich.cells import cell_len

from glm_experiments.data.answers import encode_answer
from glm_experiments.data.conversations import Message
from glm_experiments.data.packing import Item
from glm_experiments.data.prompts import encode_prompt
from glm_experiments.data.rendering import render_item, render_samples
from glm_experiments.labels import IGNORED
from tests.data.test_encoding import build_splits, encode, talk
from tests.tiny_tokenizers import tiny_tokenizer


def test_two_samples_token_by_token(tmp_path: Path) -> None:
    rows = [talk("你是谁？", "我是助手。", line=n) for n in range(1, 4)]
    encoded = encode(tmp_path, build_splits(tmp_path, rows))
    lines = render_samples(encoded, tiny_tokenizer("chatglm3")).splitlines()
    heads = [line for line in lines if line.startswith("training sample")]
    assert heads == ["training sample 1 of 3", "training sample 2 of 3"]
    item = encoded.train[0]
    table = lines[3 : lines.index(heads[1])]
    assert len(table) == len(item["input_ids"])
    for place, line in enumerate(table):
        part = "masked" if item["labels"][place] == IGNORED else "trained"
        assert line.split()[:3] == [str(place), str(item["input_ids"][place]), part]
    assert "'[gMASK]'" in table[0]
    tokens = "".join(line.split(maxsplit=3)[3].strip("'") for line in table if "trained" in line)
    assert tokens.replace("▁", "") == r"\n我是助手。</s>"


def test_columns_are_straight() -> None:
    tokenizer = tiny_tokenizer("chatglm3")
    ids = encode_prompt(tokenizer, [Message("user", "你好\nxyz")], prompt_format="chatglm3")
    ids += encode_answer(tokenizer, "é 🙂", prompt_format="chatglm3")
    item: Item = {"input_ids": ids, "labels": [IGNORED] * (len(ids) - 1) + ids[-1:]}
    lines = render_item(item, tokenizer).splitlines()
    column = lines[0].index("token")
    del lines[1]  # the rule
    assert all(line[column - 2 : column] == "  " and line[column] != " " for line in lines)
    assert all(cell_len(line[:column]) == column for line in lines)


def test_long_stretches_are_shortened_but_never_their_ends() -> None:
    tokenizer = tiny_tokenizer("chatglm3")
    ids = tokenizer.encode("a", add_special_tokens=False)[:1] * 200
    item: Item = {"input_ids": ids, "labels": [IGNORED] * 150 + ids[150:]}
    lines = [line.strip() for line in render_item(item, tokenizer).splitlines()]
    assert "... 110 more masked ..." in lines
    assert "... 10 more trained ..." in lines
    assert len(lines) == 2 + 2 * (40 + 1)
    shown = [line.split()[0] for line in lines]
    assert {"0", "149", "150", "199"} < set(shown)
