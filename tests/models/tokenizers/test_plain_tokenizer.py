"""A tokenizer for plain transformers: SentencePiece's ids, and special tokens only where meant."""

import json
import random
from pathlib import Path

import pytest
from transformers import AutoTokenizer

import glm_experiments
from glm_experiments.data.conversations import Conversation, Message
from glm_experiments.data.prompts import encode_conversation, encode_prompt
from glm_experiments.models.exporting import write_tokenizer
from glm_experiments.models.tokenizers.chatglm3_tokenizer import (
    ChatGLM2Tokenizer,
    ChatGLM3Tokenizer,
)
from glm_experiments.models.tokenizers.plain_tokenizer import build_plain_tokenizer
from glm_experiments.models.tokenizers.tokenizer_loading import load_tokenizer
from tests.models.tokenizers.test_chat_templates import chat
from tests.shared_data import SHARED, needs_shared
from tests.tiny_tokenizers import TEXTS, tiny_tokenizer

PACKAGE = Path(glm_experiments.__file__).parent
GOLDEN = SHARED / "golden" / "tokenizer_v2"
CLASSES = {"chatglm2": ChatGLM2Tokenizer, "chatglm3": ChatGLM3Tokenizer}
PARTS = [
    *"abcdefg hij  sopeop\n\t\u2581你好我是答问：。，[]<>|/s0123456789",
    *("[gMASK]", "sop", "eop", "<|user|>", "</s>", "people", "😀", "鿕", "  ", "\u3000", "e\u0301"),
]


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """Exports a tokenizer; returns what plain transformers makes of the folder."""

    def write(tokenizer):
        folder = tmp_path_factory.mktemp("plain")
        assert write_tokenizer(tokenizer, folder) is False
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)

    return write


@pytest.fixture(scope="module")
def shipped(export):
    """The tiny model's own tokenizer, and its export."""
    ours = load_tokenizer("package:tiny_glm")
    return ours, export(ours)


def mixed_texts(count):
    """Lines of source code, and of all that is odd."""
    drawn = random.Random(0)
    lines = [
        line
        for file in sorted(PACKAGE.rglob("*.py"))
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    odd = ("".join(drawn.choices(PARTS, k=drawn.randrange(40))) for _ in range(count // 2))
    return [*drawn.sample(lines, count // 2), *odd]


def test_thousands_of_texts_have_sentencepieces_ids(shipped):
    ours, plain = shipped
    texts = mixed_texts(3500)
    expected = [ours.encode(text, split_special_tokens=True) for text in texts]
    assert plain(texts, split_special_tokens=True)["input_ids"] == expected
    spelled = [ids[2:] for ids in expected]
    assert plain.batch_decode(spelled) == [ours.decode(ids) for ids in spelled]


@needs_shared
@pytest.mark.parametrize("generation", CLASSES)
def test_golden_texts_have_the_originals_ids(generation, export):
    plain = export(CLASSES[generation](str(GOLDEN / "tokenizer.model")))
    cases = json.loads((GOLDEN / f"cases_{generation}.json").read_text(encoding="utf-8"))
    assert len(cases["texts"]) == 14
    split = {"split_special_tokens": True}
    assert plain(cases["texts"], **split)["input_ids"] == cases["encode"]
    without = plain(cases["texts"], add_special_tokens=False, **split)["input_ids"]
    assert without == cases["encode_no_special"]
    assert plain.batch_decode(without) == cases["decode"]
    assert [plain("问题?", "回答。", **split)["input_ids"]] == cases["pair"]
    assert plain.convert_tokens_to_ids(list(cases["special_ids"])) == list(
        cases["special_ids"].values()
    )


@pytest.mark.parametrize("generation", CLASSES)
def test_special_tokens_are_read_by_default_and_never_inside_a_word(generation, export):
    ours = tiny_tokenizer(generation)
    plain = export(ours)
    gmask, sop, eop = ours.convert_tokens_to_ids(["[gMASK]", "sop", "eop"])
    special = set(ours.added_tokens_decoder)

    def found(text, **options):
        ids = plain.encode(text, add_special_tokens=False, **options)
        assert ids == ours.encode(
            text, add_special_tokens=False, **({"split_special_tokens": False} | options)
        )
        return [index for index in ids if index in special]

    for text in ("people", "sophisticated", "a sop", "[gMASK]", "sop You", "<|user|>sopYou"):
        assert not {sop, eop} & set(found(text)), text
    for text in ("[gMASK]sopYou", "[gMASK]sop You", "[gMASK]sop", "[gMASK]sop[Round 1]"):
        assert found(text) == [gmask, sop], text
    assert found("sop") == [sop]
    assert found("eop. people") == [eop]
    every = "".join(token.content for token in ours.added_tokens_decoder.values())
    for text in (every, "[gMASK]sopYou", "sop", "eop", "a sop b"):
        assert found(text, split_special_tokens=True) == []


@pytest.mark.parametrize("generation", ["chatglm2", "chatglm3", "glm4", "chatglm"])
@pytest.mark.parametrize(
    "messages",
    [
        chat("您好", "再见", "Who are you?"),
        chat("people", system="You are brief."),
        chat("您好 you", "Who are 您"),
        chat("您好", " yes\nno", "", None),
    ],
)
def test_a_rendered_chat_has_its_templates_ids(generation, messages, export):
    ours = tiny_tokenizer(generation)
    is_open = messages[-1]["role"] == "user"
    ids = ours.apply_chat_template(messages, add_generation_prompt=is_open, return_dict=False)
    if generation == "chatglm":
        readers = [ours]
        assert not is_open or ours(rendered(ours, messages))["input_ids"] == ids
    else:
        readers = [ours, export(ours)]
    for reader in readers:
        text = rendered(reader, messages)
        options = {"add_special_tokens": False, "split_special_tokens": False}
        assert reader(text, **options)["input_ids"] == ids
        again = reader.apply_chat_template(
            messages, add_generation_prompt=is_open, return_dict=False
        )
        assert again == ids
    if generation != "chatglm":  # by which lm-eval tells that special tokens are there
        assert text.startswith(readers[1].bos_token)


def rendered(tokenizer, messages):
    return tokenizer.apply_chat_template(
        messages, add_generation_prompt=messages[-1]["role"] == "user", tokenize=False
    )


@pytest.mark.parametrize("generation", ["chatglm", "chatglm2", "chatglm3", "glm4"])
def test_our_loader_reads_an_exported_tokenizer_as_it_was(generation, tmp_path):
    ours = tiny_tokenizer(generation)
    write_tokenizer(ours, tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert type(loaded).__name__.removeprefix("PreTrained") in (
        type(ours).__name__,
        "TokenizersBackend",
    )
    assert loaded.get_vocab() == ours.get_vocab()
    assert loaded.chat_template == ours.chat_template
    assert loaded.split_special_tokens == ours.split_special_tokens
    if generation != "glm4":
        assert loaded.special_tokens_map == ours.special_tokens_map
        assert loaded.added_tokens_decoder == ours.added_tokens_decoder
    for text in (*TEXTS[:3], "[gMASK]sopYou <|user|> people"):
        assert loaded.encode(text) == ours.encode(text)


def test_tokens_of_ones_own_are_exported(export, tmp_path):
    original = tiny_tokenizer("chatglm3")
    ours = type(original)(original.vocab_file, pad_token="[PAD]")
    ours.add_tokens(["<new>"])
    ours.add_special_tokens({"eos_token": "[END]"})
    plain = export(ours)
    write_tokenizer(ours, tmp_path)
    for reader in (plain, load_tokenizer(tmp_path)):
        assert (reader.pad_token_id, reader.eos_token_id) == (ours.pad_token_id, ours.eos_token_id)
        assert len(reader) == len(ours)
        text = "您 <new>[END]"
        assert reader.encode(text, split_special_tokens=True) == ours.encode(text)


def test_saved_again_by_others_it_stays_what_it_is(shipped, tmp_path):
    ours, plain = shipped
    plain.save_pretrained(tmp_path)
    texts = [*mixed_texts(50), "[gMASK]sopYou<|user|>\n people"]
    for reader in (AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(tmp_path)):
        assert reader(texts)["input_ids"] == plain(texts)["input_ids"]
        for text in texts:
            ids = ours.encode(text, split_special_tokens=True)
            assert reader.encode(text, split_special_tokens=True) == ids
        # Training and chat let no text spell a special token, whoever made the tokenizer.
        for encode in (encode_prompt, encode_conversation_of):
            for prompt_format in ("chatglm3", "chatglm2", "alpaca"):
                spoken = [Message("user", texts[-1])]
                found, expected = (
                    encode(each, spoken, prompt_format=prompt_format) for each in (reader, ours)
                )
                assert found == expected


def encode_conversation_of(tokenizer, messages, *, prompt_format):
    """A training sample that answers with what was asked."""
    answered = [*messages, Message("assistant", messages[0].content)]
    conversation = Conversation(answered, file="a", line=1)
    return encode_conversation(
        tokenizer, conversation, prompt_format=prompt_format, train_on="every_turn"
    )


def test_what_cannot_be_exact_is_refused_and_carried_by_code(tmp_path, monkeypatch, caplog):
    from glm_experiments.models.tokenizers import plain_tokenizer

    # One merge the other way round, as a model file of an unknown kind could have it.
    merges = plain_tokenizer._list_merges
    monkeypatch.setattr(
        plain_tokenizer, "_list_merges", lambda model: reversed(list(merges(model)))
    )
    ours = tiny_tokenizer("chatglm3")
    with pytest.raises(ValueError, match="other ids"):
        build_plain_tokenizer(ours)
    assert write_tokenizer(ours, tmp_path) is True
    assert "needs trust_remote_code=True: tokenizers makes other ids of" in caplog.text
    assert not (tmp_path / "tokenizer.json").exists()
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert settings["auto_map"] == {
        "AutoTokenizer": ["tokenization_chatglm3.ChatGLM3Tokenizer", None]
    }
    code = (tmp_path / "tokenization_chatglm3.py").read_text(encoding="utf-8")
    assert "from glm_experiments" not in code
    assert load_tokenizer(tmp_path).encode("您好 sop") == ours.encode("您好 sop")
