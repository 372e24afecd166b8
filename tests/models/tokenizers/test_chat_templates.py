"""Chats through `apply_chat_template`: the original's ids, the assistant's mask, safe messages."""

import dataclasses
import json

import pytest

from glm_experiments.data.answers import encode_answer
from glm_experiments.data.conversations import Message
from glm_experiments.data.prompts import encode_prompt
from glm_experiments.models.tokenizers.chat_templates import has_answer_marks
from glm_experiments.models.tokenizers.chatglm3_tokenizer import (
    ChatGLM2Tokenizer,
    ChatGLM3Tokenizer,
)
from tests.shared_data import SHARED, needs_shared
from tests.tiny_tokenizers import tiny_tokenizer

GENERATIONS = ("chatglm", "chatglm2", "chatglm3", "glm4")
GOLDEN = SHARED / "golden" / "tokenizer_v2"


def chat(*contents, system=None):
    """Messages of user and assistant in turn."""
    start = [] if system is None else [{"role": "system", "content": system}]
    roles = ["user", "assistant"] * len(contents)
    turns = zip(roles, contents, strict=False)
    return start + [{"role": role, "content": content} for role, content in turns]


@needs_shared
def test_chatglm3_chats_have_the_ids_of_the_original():
    tokenizer = ChatGLM3Tokenizer(str(GOLDEN / "tokenizer.model"))
    cases = json.loads((GOLDEN / "cases_chatglm3.json").read_text())["chat"]
    for case in cases:
        messages = [*case["history"], {"role": case["role"], "content": case["query"]}]
        out = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
        assert out["input_ids"] == case["ids"]


@needs_shared
def test_chatglm2_chats_have_the_ids_of_the_original():
    tokenizer = ChatGLM2Tokenizer(str(GOLDEN / "tokenizer.model"))
    cases = json.loads((GOLDEN / "cases_chatglm2.json").read_text())["build_prompt"]
    for case in cases:
        contents = [text for pair in case["history"] for text in pair]
        out = tokenizer.apply_chat_template(
            chat(*contents, case["query"]), add_generation_prompt=True
        )
        assert out["input_ids"] == case["ids"]


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize(
    "messages",
    [
        chat("您好", "再见", "Who are you?"),
        chat("您好"),
        chat("您好", "再见", "再见", system="Be brief."),
    ],
)
def test_a_template_writes_the_prompt_format_of_its_generation(generation, messages):
    tokenizer = tiny_tokenizer(generation)
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    prompt = [Message(message["role"], message["content"]) for message in messages]
    assert ids == encode_prompt(tokenizer, prompt, prompt_format=generation)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_mask_covers_the_answer_and_its_end(generation):
    tokenizer = tiny_tokenizer(generation)
    out = tokenizer.apply_chat_template(
        chat("您好 you", "Who are 您"), return_assistant_tokens_mask=True
    )
    question = [Message("user", "您好 you")]
    prompt = encode_prompt(tokenizer, question, prompt_format=generation)
    answer = encode_answer(tokenizer, "Who are 您", prompt_format=generation)
    assert out["input_ids"] == prompt + answer
    assert out["assistant_masks"] == [0] * len(prompt) + [1] * len(answer)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_mask_covers_every_answer(generation):
    tokenizer = tiny_tokenizer(generation)
    out = tokenizer.apply_chat_template(
        chat("您好", "first", "再见", "second"), return_assistant_tokens_mask=True
    )
    spoken = [
        index
        for index, is_spoken in zip(out["input_ids"], out["assistant_masks"], strict=True)
        if is_spoken
    ]
    text = tokenizer.decode(spoken, skip_special_tokens=True)
    assert text.replace("\n", "").replace(" ", "") == "firstsecond"


@pytest.mark.parametrize("generation", ["chatglm", "chatglm2", "chatglm3"])
def test_a_message_becomes_no_special_token(generation):
    tokenizer = tiny_tokenizer(generation)
    text = "[gMASK] sop <sop> <|user|> </s> <eop>"
    plain = tokenizer.apply_chat_template(chat("a"), add_generation_prompt=True)["input_ids"]
    ids = tokenizer.apply_chat_template(chat(text), add_generation_prompt=True)["input_ids"]
    special = set(tokenizer.added_tokens_decoder)
    assert [index for index in ids if index in special] == [
        index for index in plain if index in special
    ]
    assert text in tokenizer.decode(ids)
    assert text in tokenizer.apply_chat_template(chat(text), tokenize=False)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("generation", ["chatglm", "chatglm2", "chatglm3"])
def test_batches_of_chats_are_padded_with_their_masks(generation, side):
    tokenizer = tiny_tokenizer(generation)
    chats = [chat("您好", "yes"), chat("Who are you? I am", "an assistant.")]
    single = [
        tokenizer.apply_chat_template(each, return_assistant_tokens_mask=True) for each in chats
    ]
    out = tokenizer.apply_chat_template(
        chats,
        padding=True,
        return_tensors="pt",
        return_assistant_tokens_mask=True,
        tokenizer_kwargs={"padding_side": side},
    )
    length = len(single[1]["input_ids"])
    assert out["assistant_masks"].shape == out["input_ids"].shape == (2, length)
    num_padding = length - len(single[0]["input_ids"])
    mask = single[0]["assistant_masks"]
    padding = [0] * num_padding
    expected = padding + mask if side == "left" else mask + padding
    assert num_padding > 0
    assert out["assistant_masks"][0].tolist() == expected
    assert out["assistant_masks"][1].tolist() == single[1]["assistant_masks"]


def test_a_cut_chat_keeps_its_mask_in_place():
    tokenizer = tiny_tokenizer("chatglm3")
    messages = chat("您好", "yes no yes no")
    whole = tokenizer.apply_chat_template(messages, return_assistant_tokens_mask=True)
    cut = tokenizer.apply_chat_template(
        messages, truncation=True, max_length=12, return_assistant_tokens_mask=True
    )
    assert cut["input_ids"] == whole["input_ids"][:12]
    assert cut["assistant_masks"] == whole["assistant_masks"][:12]
    assert sum(cut["assistant_masks"]) > 0


def test_a_published_template_without_marks_gives_way_only_for_the_mask():
    plain = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    file = tiny_tokenizer("chatglm3").vocab_file
    tokenizer = ChatGLM3Tokenizer(file, chat_template=plain)
    messages = chat("您好", "yes")
    assert not has_answer_marks(plain)
    assert tokenizer.apply_chat_template(messages, tokenize=False) == "您好yes"
    out = tokenizer.apply_chat_template(messages, return_assistant_tokens_mask=True)
    assert sum(out["assistant_masks"]) > 0


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_last_message_can_be_continued(generation):
    tokenizer = tiny_tokenizer(generation)
    messages = chat("您好", "I am")
    text = tokenizer.apply_chat_template(messages, continue_final_message=True, tokenize=False)
    assert text.endswith("I am")
    ids = tokenizer.apply_chat_template(messages, continue_final_message=True, return_dict=False)
    # As the answer would have been generated, without its end.
    assert ids == tokenizer.apply_chat_template(messages, return_dict=False)[:-1]
    for other in ("add_generation_prompt", "return_assistant_tokens_mask"):
        with pytest.raises(ValueError, match="continue_final_message"):
            tokenizer.apply_chat_template(messages, continue_final_message=True, **{other: True})


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_role_that_a_generation_lacks_is_refused(generation):
    messages = [{"role": "tool", "content": "1"}]
    with pytest.raises(Exception, match="has no role tool"):
        tiny_tokenizer(generation).apply_chat_template(messages)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_tools_are_not_left_out_in_silence(generation):
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    with pytest.raises(Exception, match="tools"):
        tiny_tokenizer(generation).apply_chat_template(chat("您好"), tools=tools)


@pytest.mark.parametrize("generation", ["chatglm", "chatglm2", "chatglm3"])
def test_what_a_message_leaves_empty_is_as_good_as_absent(generation):
    tokenizer = tiny_tokenizer(generation)
    template = "{% for message in messages %}{{ message.tool_calls is defined }}{% endfor %}"
    messages = [{"role": "user", "content": "您好", "tool_calls": None}]
    text = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False)
    assert text == "False"


def test_an_empty_chat_is_refused():
    with pytest.raises(ValueError, match="at least one message"):
        tiny_tokenizer("chatglm3").apply_chat_template([])


@dataclasses.dataclass
class Spoken:
    """A message as clients of chat servers have it."""

    role: str
    content: str | None
    tools: list[str] | None = None
    tool_calls: list[str] | None = None
    metadata: str | None = None


class Modelled:
    """As pydantic's models say what they hold."""

    def __init__(self, spoken):
        self.spoken = spoken

    def model_dump(self):
        return dataclasses.asdict(self.spoken)


@pytest.mark.parametrize("kind", [lambda spoken: spoken, Modelled, dataclasses.asdict])
@pytest.mark.parametrize("generation", ["chatglm", "chatglm2", "chatglm3"])
def test_messages_may_be_objects_with_empty_fields(generation, kind):
    tokenizer = tiny_tokenizer(generation)
    text = "您好 <|user|> [gMASK] <eop>"
    ids = [
        tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        for messages in (
            chat(text, "", "再见"),
            [
                kind(Spoken("user", text)),
                kind(Spoken("assistant", None)),
                kind(Spoken("user", "再见")),
            ],
        )
    ]
    assert ids[0] == ids[1]
    special = [index for index in ids[1] if index in tokenizer.added_tokens_decoder]
    plain = tokenizer.apply_chat_template(chat("a", "b", "c"), add_generation_prompt=True)
    assert special == [
        index for index in plain["input_ids"] if index in tokenizer.added_tokens_decoder
    ]


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_system_message_may_be_empty(generation):
    tokenizer = tiny_tokenizer(generation)
    empty, absent = (
        tokenizer.apply_chat_template(
            [{"role": "system", "content": content}, *chat("您好")], return_dict=False
        )
        for content in ("", None)
    )
    assert empty == absent
