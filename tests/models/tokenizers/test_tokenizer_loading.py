"""`load_tokenizer`: which tokenizer a folder holds, and what it refuses."""

import json
import shutil

import pytest
from transformers import AutoTokenizer, GlmConfig, PreTrainedTokenizerFast

from glm_experiments.models import check_vocabulary, load_tokenizer
from glm_experiments.models.tokenizers.chatglm3_tokenizer import (
    ChatGLM2Tokenizer,
    ChatGLM3Tokenizer,
)
from glm_experiments.models.tokenizers.chatglm_tokenizer import ChatGLMTokenizer
from glm_experiments.models.tokenizers.tokenizer_loading import TOKENIZER_CLASSES
from tests.tiny_tokenizers import RANKS, tiny_folder, tiny_tokenizer, write_rank_file

PUBLISHED = {
    "chatglm": {
        "name_or_path": "THUDM/chatglm-6b",
        "bos_token": "<sop>",
        "eos_token": "<eop>",
        "end_token": "</s>",
        "gmask_token": "[gMASK]",
        "mask_token": "[MASK]",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "remove_space": False,
        "do_lower_case": False,
        "tokenizer_class": "ChatGLMTokenizer",
        "num_image_tokens": 0,
        "auto_map": {"AutoTokenizer": ["tokenization_chatglm.ChatGLMTokenizer", None]},
    },
    "chatglm2": {
        "name_or_path": "THUDM/chatglm2-6b",
        "remove_space": False,
        "do_lower_case": False,
        "tokenizer_class": "ChatGLMTokenizer",
        "auto_map": {"AutoTokenizer": ["tokenization_chatglm.ChatGLMTokenizer", None]},
    },
    "chatglm3": {
        "name_or_path": "THUDM/chatglm3-6b",
        "remove_space": False,
        "do_lower_case": False,
        "tokenizer_class": "ChatGLMTokenizer",
        "additional_special_tokens": ["<|user|>", "<|observation|>"],
        "chat_template": "{% for message in messages %}{{ message['content'] }}{% endfor %}",
        "auto_map": {"AutoTokenizer": ["tokenization_chatglm.ChatGLMTokenizer", None]},
    },
    "glm4": {
        "tokenizer_class": "ChatGLM4Tokenizer",
        "model_max_length": 128000,
        "pad_token": "<|endoftext|>",
        "auto_map": {"AutoTokenizer": ["tokenization_chatglm.ChatGLM4Tokenizer", None]},
    },
}
CLASSES = {
    "chatglm": ChatGLMTokenizer,
    "chatglm2": ChatGLM2Tokenizer,
    "chatglm3": ChatGLM3Tokenizer,
    "glm4": PreTrainedTokenizerFast,
}


def copy_model_file(generation, folder):
    file = next(tiny_folder(generation).glob("*.model"))
    shutil.copy(file, folder)


@pytest.mark.parametrize("generation", PUBLISHED)
def test_a_published_folder_gives_the_tokenizer_of_its_generation(generation, tmp_path):
    copy_model_file(generation, tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(PUBLISHED[generation]))
    tokenizer = load_tokenizer(tmp_path)
    assert type(tokenizer) is CLASSES[generation]
    assert tokenizer.padding_side == "left"
    assert tokenizer.get_vocab() == tiny_tokenizer(generation).get_vocab()
    text = "您好 Who\n are [gMASK] you"
    assert tokenizer.encode(text) == tiny_tokenizer(generation).encode(text)


@pytest.mark.parametrize("generation", PUBLISHED)
def test_a_saved_tokenizer_is_loaded_again(generation, tmp_path):
    tokenizer = tiny_tokenizer(generation)
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert type(loaded) is type(tokenizer)
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert loaded.encode("您好 Who\n  are") == tokenizer.encode("您好 Who\n  are")
    assert loaded.chat_template == tokenizer.chat_template
    assert loaded.pad_token_id == tokenizer.pad_token_id
    assert loaded.eos_token_id == tokenizer.eos_token_id


def test_a_bare_model_file_is_taken_for_version_3_unless_the_path_says_2(tmp_path):
    for name, expected in (("some", ChatGLM3Tokenizer), ("chatglm2-6b", ChatGLM2Tokenizer)):
        folder = tmp_path / name
        folder.mkdir()
        copy_model_file("chatglm3", folder)
        assert type(load_tokenizer(folder)) is expected


@pytest.mark.parametrize("num_image_tokens", [0, 20000])
def test_version_1_learns_its_image_tokens_from_the_model(tmp_path, num_image_tokens):
    copy_model_file("chatglm", tmp_path)
    end = tiny_tokenizer("chatglm").eos_token_id + num_image_tokens
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": end}))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.num_image_tokens == num_image_tokens
    assert tokenizer.eos_token_id == end


@pytest.mark.parametrize("generation", ["chatglm2", "chatglm3"])
def test_autotokenizer_finds_the_class_beside_a_native_model(generation, tmp_path, monkeypatch):
    from transformers.models.auto import tokenization_auto

    for known in TOKENIZER_CLASSES:
        monkeypatch.setitem(tokenization_auto.REGISTERED_TOKENIZER_CLASSES, known.__name__, known)
    tiny_tokenizer(generation).save_pretrained(tmp_path)
    GlmConfig(vocab_size=500, pad_token_id=0, eos_token_id=2).save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert type(loaded) is type(tiny_tokenizer(generation))


def test_a_folder_without_tokenizer_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no tokenizer \(ice_text.model, tokenizer.model"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "tokenizer.json"])
def test_broken_json_is_refused_by_file_name(tmp_path, name):
    (tmp_path / name).write_text('{"a": ')
    with pytest.raises(ValueError, match=name):
        load_tokenizer(tmp_path)


def test_glm4_ids_are_ranks_and_special_tokens_behind_them():
    tokenizer = tiny_tokenizer("glm4")
    size = len(RANKS)
    names = ["<|endoftext|>", "[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|observation|>"]
    assert tokenizer.convert_tokens_to_ids(names) == [size + i for i in (0, 2, 4, 7, 8, 9)]
    start = tokenizer.convert_tokens_to_ids(["[gMASK]", "<sop>"])
    hello = RANKS.index(b"hello")
    assert tokenizer.encode("hello") == [*start, hello]
    assert tokenizer("hello", "hello")["input_ids"] == [*start, hello, hello, size]
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == size
    assert tokenizer.decode(tokenizer.encode("hello 你们😀"), skip_special_tokens=True) == (
        "hello 你们😀"
    )


def test_glm4_encodes_as_tiktoken():
    tiktoken = pytest.importorskip("tiktoken")
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+"
        r"[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    ranks = {token: rank for rank, token in enumerate(RANKS)}
    reference = tiktoken.Encoding("glm4", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    for text in ("hello  hell\n\n12345 它's  ", " 你们你😀\r\n\t x", "[gMASK]<|user|>hello", ""):
        ids = tiny_tokenizer("glm4").encode(
            text, add_special_tokens=False, split_special_tokens=True
        )
        assert ids == reference.encode_ordinary(text), text


def test_glm4_takes_the_special_tokens_that_its_settings_list(tmp_path):
    write_rank_file(tmp_path)
    names = ["<|endoftext|>", "[gMASK]", "<sop>", "<|user|>"]
    listed = {str(len(RANKS) + place): {"content": name} for place, name in enumerate(names)}
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps({"added_tokens_decoder": listed}))
    tokenizer = load_tokenizer(tmp_path)
    assert len(tokenizer) == len(RANKS) + 4
    assert tokenizer.convert_tokens_to_ids("<|user|>") == len(RANKS) + 3
    file.write_text(json.dumps({"added_tokens_decoder": {"999": {"content": "<sop>"}}}))
    with pytest.raises(ValueError, match=f"has {len(RANKS)} tokens.*ids 999 to 999"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"), [(b"aGk=", "no base64 token"), (b"aGk= 7", "rank 7 where 265 is due")]
)
def test_a_broken_rank_file_is_refused_by_line(tmp_path, line, message):
    file = write_rank_file(tmp_path)
    file.write_bytes(file.read_bytes() + line + b"\n")
    with pytest.raises(ValueError, match=rf"tokenizer\.model, line 266: {message}"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("generation", "config", "message"),
    [
        ("chatglm3", {"vocab_size": 409, "eos_token_id": 2}, None),
        ("chatglm3", {"vocab_size": 409, "eos_token_id": [2, 7]}, None),
        ("chatglm3", {"vocab_size": 408, "eos_token_id": 2}, "409 tokens.*408 embeddings"),
        ("chatglm", {"vocab_size": 498, "eos_token_id": 495}, None),
        ("chatglm", {"vocab_size": 490, "eos_token_id": 495}, "498 tokens.*490 embeddings"),
        ("chatglm", {"vocab_size": 20498, "eos_token_id": 20495}, "id 495.*20498.*with 20495"),
    ],
)
def test_a_tokenizer_that_does_not_fit_its_model_is_refused_with_both_sizes(
    generation, config, message
):
    tokenizer = tiny_tokenizer(generation)
    if message is None:
        check_vocabulary(tokenizer, GlmConfig(pad_token_id=None, **config))
        return
    with pytest.raises(ValueError, match=message):
        check_vocabulary(tokenizer, GlmConfig(pad_token_id=None, **config))
