"""The SentencePiece tokenizers against what the original tokenizers returned, and beyond."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, TextStreamer

from glm_experiments.models.tokenizers.chatglm3_tokenizer import (
    ChatGLM2Tokenizer,
    ChatGLM3Tokenizer,
)
from glm_experiments.models.tokenizers.chatglm_tokenizer import ChatGLMTokenizer
from glm_experiments.models.tokenizers.tokenizer_loading import load_tokenizer
from tests.shared_data import SHARED, needs_shared
from tests.tiny_tokenizers import tiny_folder, tiny_tokenizer

GOLDEN = SHARED / "golden"
CASES = {
    "cases_image0": (ChatGLMTokenizer, "tokenizer_v1/ice_text.model", {"num_image_tokens": 0}),
    "cases_image20000": (
        ChatGLMTokenizer,
        "tokenizer_v1/ice_text.model",
        {"num_image_tokens": 20000},
    ),
    "cases_chatglm2": (ChatGLM2Tokenizer, "tokenizer_v2/tokenizer.model", {}),
    "cases_chatglm3": (ChatGLM3Tokenizer, "tokenizer_v2/tokenizer.model", {}),
}
SENTENCEPIECE = ("chatglm", "chatglm2", "chatglm3")


def load_case(name: str) -> tuple[Any, dict[str, Any]]:
    tokenizer_class, file, options = CASES[name]
    folder = Path(file).parent
    cases = json.loads((GOLDEN / folder / f"{name}.json").read_text())
    return tokenizer_class(str(GOLDEN / file), **options), cases


@needs_shared
@pytest.mark.parametrize("name", CASES)
def test_texts_are_encoded_and_decoded_as_by_the_original(name):
    tokenizer, cases = load_case(name)
    for text, ids, with_special, decoded in zip(
        cases["texts"],
        cases["encode_no_special"],
        cases["encode"],
        cases["decode"],
        strict=True,
    ):
        assert tokenizer.encode(text, add_special_tokens=False) == ids, text
        assert tokenizer.encode(text) == with_special, text
        assert tokenizer.decode(ids) == decoded, text


@needs_shared
@pytest.mark.parametrize("name", CASES)
def test_sizes_and_special_ids_are_the_originals(name):
    tokenizer, cases = load_case(name)
    assert tokenizer.vocab_size == len(tokenizer) == cases["vocab_size"]
    assert tokenizer.convert_tokens_to_ids(list(cases["special_ids"])) == list(
        cases["special_ids"].values()
    )


@needs_shared
@pytest.mark.parametrize("name", CASES)
def test_a_question_and_answer_pair_is_put_together_as_by_the_original(name):
    tokenizer, cases = load_case(name)
    assert [tokenizer("问题?", "回答。")["input_ids"]] == cases["pair"]
    ids = cases["pair"][0]
    special = {tokenizer.gmask_token_id, tokenizer.sop_token_id, tokenizer.eos_token_id}
    mask = tokenizer("问题?", "回答。", return_special_tokens_mask=True)["special_tokens_mask"]
    assert mask == [int(index in special) for index in ids]


@needs_shared
@pytest.mark.parametrize("name", CASES)
def test_batches_are_padded_on_either_side(name):
    tokenizer, cases = load_case(name)
    golden = cases["padded_batch"]["input_ids"]
    rows = [[index for index in row if index != tokenizer.pad_token_id] for row in golden]
    texts = [tokenizer.decode(row, skip_special_tokens=True) for row in rows]
    assert tokenizer(texts, padding=True)["input_ids"] == golden
    right = tokenizer(texts, padding=True, padding_side="right")
    length = len(golden[0])
    for row, ids, mask in zip(rows, right["input_ids"], right["attention_mask"], strict=True):
        num_padding = length - len(row)
        assert ids == row + [tokenizer.pad_token_id] * num_padding
        assert mask == [1] * len(row) + [0] * num_padding


@needs_shared
@pytest.mark.parametrize("name", ["cases_chatglm2", "cases_chatglm3"])
def test_padding_is_masked_as_by_the_original(name):
    tokenizer, cases = load_case(name)
    golden = cases["padded_batch"]
    texts = [tokenizer.decode(row, skip_special_tokens=True) for row in golden["input_ids"]]
    assert tokenizer(texts, padding=True)["attention_mask"] == golden["attention_mask"]


@needs_shared
def test_chatglm2_builds_the_prompts_of_the_original():
    tokenizer, cases = load_case("cases_chatglm2")
    for case in cases["build_prompt"]:
        prompt = tokenizer.build_prompt(case["query"], case["history"])
        assert prompt == case["prompt"]
        assert tokenizer.encode(prompt) == case["ids"]


@needs_shared
def test_chatglm3_builds_the_chats_of_the_original():
    tokenizer, cases = load_case("cases_chatglm3")
    assert len(cases["chat"]) == 4
    for case in cases["chat"]:
        ids = tokenizer.build_chat_input(case["query"], case["history"], case["role"])
        assert ids == case["ids"]


def test_an_unknown_role_is_refused_by_name():
    with pytest.raises(ValueError, match="the role 'tool' is unknown to ChatGLM3"):
        tiny_tokenizer("chatglm3").build_chat_input("a", role="tool")


@pytest.mark.parametrize("generation", ["chatglm2", "chatglm3"])
def test_text_spells_no_special_token_unless_asked_to(generation):
    tokenizer = tiny_tokenizer(generation)
    text = "[gMASK]sop</s><|user|>"
    special = set(tokenizer.added_tokens_decoder)
    assert not special & set(tokenizer.encode(text, add_special_tokens=False))
    ids = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=False)
    assert ids[:3] == tokenizer.convert_tokens_to_ids(["[gMASK]", "sop", "</s>"])


def test_version_1_takes_special_tokens_as_text_when_asked_to():
    tokenizer = tiny_tokenizer("chatglm")
    text = "[gMASK]<sop><eop>"
    assert set(tokenizer.convert_tokens_to_ids(["[gMASK]", "<sop>", "<eop>"])) <= set(
        tokenizer.encode(text)
    )
    ids = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    assert not set(tokenizer.added_tokens_decoder) & set(ids)
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("generation", SENTENCEPIECE)
def test_spans_cover_the_text_token_by_token(generation):
    tokenizer = tiny_tokenizer(generation)
    text = "您好 😀  Who\n\tare 鿕<|user|>"
    ids, spans = tokenizer.encode_with_spans(text)
    assert ids == tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    assert spans[0][0] == 0
    assert spans[-1][1] == len(text)
    emoji = [span for span in spans if span[0] <= text.index("😀") < span[1]]
    assert len(emoji) >= 4
    assert len(set(emoji[-3:])) == 1


@pytest.mark.parametrize("generation", SENTENCEPIECE)
def test_growing_text_never_shows_a_broken_character(generation):
    tokenizer = tiny_tokenizer(generation)
    text = "您好😀鿕, Who are 𠮷?"
    ids = tokenizer.encode(text, add_special_tokens=False)
    shown = ""
    for length in range(1, len(ids) + 1):
        grown = tokenizer.decode(ids[:length])
        assert "\ufffd" not in grown
        assert grown.startswith(shown)
        shown = grown
    assert shown == text


@pytest.mark.parametrize("generation", SENTENCEPIECE)
def test_a_text_streamer_prints_the_text(generation, capsys):
    tokenizer = tiny_tokenizer(generation)
    text = "您好😀鿕 Who are you? 再见"
    streamer = TextStreamer(tokenizer, skip_special_tokens=True)
    for index in [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]:
        streamer.put(torch.tensor([index]))
    streamer.end()
    assert capsys.readouterr().out == text + "\n"


@pytest.mark.parametrize("generation", SENTENCEPIECE)
def test_rows_of_a_padded_vocabulary_stand_for_no_text(generation):
    tokenizer = tiny_tokenizer(generation)
    ids = tokenizer.encode("hello", add_special_tokens=False)
    assert tokenizer.decode([*ids, len(tokenizer) + 7]) == "hello"


@pytest.mark.parametrize("generation", SENTENCEPIECE)
def test_save_and_load_give_the_same_tokenizer(generation, tmp_path):
    tokenizer = tiny_tokenizer(generation)
    tokenizer.save_pretrained(tmp_path)
    loaded = type(tokenizer).from_pretrained(tmp_path)
    text = "您好 😀  Who\n\tare [gMASK]<sop>"
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert loaded.encode(text) == tokenizer.encode(text)
    assert loaded.added_tokens_decoder == tokenizer.added_tokens_decoder
    assert loaded.chat_template == tokenizer.chat_template


def test_the_first_releases_ids_survive_saving(tmp_path):
    file = tiny_tokenizer("chatglm").vocab_file
    ChatGLMTokenizer(file, num_image_tokens=20000).save_pretrained(tmp_path)
    loaded = ChatGLMTokenizer.from_pretrained(tmp_path)
    plain = tiny_tokenizer("chatglm")
    assert loaded.encode("您好") == [index + 20000 for index in plain.encode("您好")]
    assert loaded.convert_ids_to_tokens(7) == "<image_7>"
    assert loaded.convert_tokens_to_ids("<image_7>") == 7


@pytest.mark.parametrize("generation", SENTENCEPIECE)
def test_a_tokenizer_travels_between_processes(generation):
    tokenizer = tiny_tokenizer(generation)
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.encode("您好 [gMASK]") == tokenizer.encode("您好 [gMASK]")


def test_added_tokens_are_found_in_a_text():
    tokenizer = type(tiny_tokenizer("chatglm3"))(tiny_tokenizer("chatglm3").vocab_file)
    size = len(tokenizer)
    assert tokenizer.add_tokens(["<new>"]) == 1
    assert size in tokenizer.encode("a<new>b")
    assert tokenizer.decode(tokenizer.encode("a<new>b", add_special_tokens=False)) == "a<new>b"


@pytest.mark.parametrize("generation", SENTENCEPIECE)
def test_tokens_of_ones_own_survive_saving(generation, tmp_path):
    original = tiny_tokenizer(generation)
    tokenizer = type(original)(original.vocab_file, pad_token="[PAD]")
    tokenizer.add_tokens(["<new>"])
    tokenizer.add_special_tokens({"eos_token": "[END]"})
    ids = [len(original), len(original) + 1, len(original) + 2]
    tokenizer.save_pretrained(tmp_path)
    for each in (tokenizer, load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)):
        assert (each.pad_token, each.eos_token) == ("[PAD]", "[END]")
        assert each.convert_tokens_to_ids(["[PAD]", "<new>", "[END]"]) == ids
        assert each.encode("您 <new>") == tokenizer.encode("您 <new>")
        assert len(each) == len(original) + 3


def test_the_end_that_the_first_release_names_is_not_the_one_it_uses():
    file = tiny_tokenizer("chatglm").vocab_file
    assert ChatGLMTokenizer(file, eos_token="</s>").eos_token == "<eop>"


@pytest.mark.parametrize(
    ("tokenizer_class", "generation", "message"),
    [
        (ChatGLMTokenizer, "chatglm3", r"no piece \[MASK\].*load_tokenizer"),
        (ChatGLM3Tokenizer, "chatglm", "the vocabulary of ChatGLM version 1, not of ChatGLM3"),
        (ChatGLM2Tokenizer, "glm4", "no SentencePiece model.*tiktoken ranks"),
    ],
)
def test_a_model_file_of_another_generation_is_refused(tokenizer_class, generation, message):
    file = next(tiny_folder(generation).glob("*.model"))
    with pytest.raises(ValueError, match=message):
        tokenizer_class(str(file))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x00\x01garbage", "download it again"),
    ],
)
def test_a_broken_model_file_is_refused_by_name(tmp_path, content, message):
    file = tmp_path / "tokenizer.model"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"tokenizer\.model is no SentencePiece.*{message}"):
        ChatGLM3Tokenizer(str(file))
