"""Prompts and training samples: their texts, and what of them is trained."""

import pytest

from glm_experiments.data.answers import encode_answer
from glm_experiments.data.conversations import Message
from glm_experiments.data.prompts import encode_conversation, encode_prompt, encode_text
from tests.data.talks import ONE, PAIRS, SYSTEM, TWO, talk
from tests.tiny_tokenizers import tiny_tokenizer


def trained_text(tokenizer, encoded):
    """What is trained, a bar where something untrained lies between."""
    parts, was_trained = [], True
    for index, is_trained in zip(encoded.input_ids, encoded.is_trained, strict=True):
        if is_trained and not was_trained:
            parts.append([])
        if is_trained:
            parts[-1].append(index)
        was_trained = is_trained
    return [tokenizer.decode(part) for part in parts]


@pytest.mark.parametrize(
    ("prompt_format", "generation", "messages", "text"),
    [
        ("chatglm", "chatglm", ONE, "您好[gMASK]<sop>"),
        ("chatglm", "chatglm", SYSTEM, "Be brief.\n您好[gMASK]<sop>"),
        (
            "chatglm",
            "chatglm",
            TWO,
            "[Round 0]\n问：您好\n答：再见\n[Round 1]\n问：Who\nare you\n答：[gMASK]<sop>",
        ),
        ("chatglm2", "chatglm2", ONE, "[gMASK]sop[Round 1]\n\n问：您好\n\n答："),
        (
            "chatglm2",
            "chatglm2",
            TWO,
            "[gMASK]sop[Round 1]\n\n问：您好\n\n答：再见\n\n[Round 2]\n\n问：Who\nare you\n\n答：",
        ),
        ("glm4", "glm4", ONE, "[gMASK]<sop><|user|>\n您好<|assistant|>"),
        (
            "glm4",
            "glm4",
            TWO,
            "[gMASK]<sop><|user|>\n您好<|assistant|>\n再见<|user|>\nWho\nare you<|assistant|>",
        ),
        ("alpaca", "chatglm", ONE, "Instruction: 您好\nAnswer: [gMASK]<sop>"),
        (
            "alpaca",
            "chatglm3",
            TWO,
            "[gMASK]sopInstruction: 您好\nAnswer: 再见\nInstruction: Who\nInput: are you\nAnswer: ",
        ),
    ],
)
def test_a_prompt_reads_as_its_format_says(prompt_format, generation, messages, text):
    tokenizer = tiny_tokenizer(generation)
    ids = encode_prompt(tokenizer, messages, prompt_format=prompt_format)
    assert tokenizer.decode(ids) == text


def test_chatglm3_prompts_are_those_of_its_chat_function():
    tokenizer = tiny_tokenizer("chatglm3")
    history = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "您好"},
        {"role": "assistant", "content": "再见"},
    ]
    messages = [Message(each["role"], each["content"]) for each in history]
    for role in ("user", "observation"):
        ids = encode_prompt(tokenizer, [*messages, Message(role, "Who")], prompt_format="chatglm3")
        assert ids == tokenizer.build_chat_input("Who", history, role)


def test_chatglm2_prompts_are_those_of_its_chat_function():
    tokenizer = tiny_tokenizer("chatglm2")
    messages = [*ONE, Message("assistant", "再见"), Message("user", "Who")]
    expected = tokenizer.encode(tokenizer.build_prompt("Who", [("您好", "再见")]))
    assert encode_prompt(tokenizer, messages, prompt_format="chatglm2") == expected


@pytest.mark.parametrize(("prompt_format", "generation"), PAIRS)
@pytest.mark.parametrize("train_on", ["every_turn", "last_turn"])
def test_training_samples_are_prompt_and_answer_of_generation(prompt_format, generation, train_on):
    tokenizer = tiny_tokenizer(generation)
    messages = (*TWO, Message("assistant", "I am 您"))
    samples = encode_conversation(
        tokenizer, talk(*messages), prompt_format=prompt_format, train_on=train_on
    )
    prompt = encode_prompt(tokenizer, messages[:-1], prompt_format=prompt_format)
    answer = encode_answer(tokenizer, "I am 您", prompt_format=prompt_format)
    assert samples[-1].input_ids == prompt + answer
    assert samples[-1].is_trained[-len(answer) :] == [True] * len(answer)
    if train_on == "last_turn":
        assert len(samples) == 1
        assert not any(samples[-1].is_trained[: len(prompt)])


@pytest.mark.parametrize(
    ("prompt_format", "generation", "texts"),
    [
        ("chatglm", "chatglm", [["再见<eop>"], ["I am<eop>"]]),
        ("chatglm2", "chatglm2", [["再见</s>"], ["I am</s>"]]),
        ("alpaca", "chatglm3", [["再见</s>"], ["I am</s>"]]),
        ("chatglm3", "chatglm3", [["\n 再见<|user|>", "\n I am</s>"]]),
        ("glm4", "glm4", [["\n再见<|user|>", "\nI am<|user|>"]]),
    ],
)
def test_exactly_the_answers_are_trained(prompt_format, generation, texts):
    tokenizer = tiny_tokenizer(generation)
    samples = encode_conversation(
        tokenizer,
        talk(*TWO, Message("assistant", "I am")),
        prompt_format=prompt_format,
        train_on="every_turn",
    )
    assert [trained_text(tokenizer, sample) for sample in samples] == texts


def test_tool_turns_train_what_the_assistant_says():
    tokenizer = tiny_tokenizer("chatglm3")
    messages = (*ONE, Message("assistant", "call"), Message("observation", "3"))
    (sample,) = encode_conversation(
        tokenizer,
        talk(*messages, Message("assistant", "three")),
        prompt_format="chatglm3",
        train_on="every_turn",
    )
    assert trained_text(tokenizer, sample) == ["\n call<|observation|>", "\n three</s>"]


@pytest.mark.parametrize(("prompt_format", "generation"), PAIRS)
def test_text_becomes_no_special_token(prompt_format, generation):
    tokenizer = tiny_tokenizer(generation)
    spelled = "[gMASK]sop<sop><|user|><|assistant|></s><eop><|endoftext|>"
    special = set(tokenizer.added_tokens_decoder)

    def count(text):
        messages = (Message("system", text), Message("user", text, text))
        (sample,) = encode_conversation(
            tokenizer,
            talk(*messages, Message("assistant", text)),
            prompt_format=prompt_format,
            train_on="every_turn",
        )
        return [index for index in sample.input_ids if index in special], sample

    expected, _ = count("a")
    found, sample = count(spelled)
    assert found == expected
    assert spelled in tokenizer.decode(sample.input_ids)


@pytest.mark.parametrize("prompt_format", ["chatglm", "chatglm2", "alpaca"])
@pytest.mark.parametrize(
    "messages",
    [
        (),
        (Message("observation", "3"),),
        (*ONE, *ONE),
        (*ONE, Message("assistant", "a")),
    ],
)
def test_an_order_that_a_format_cannot_express_is_refused(prompt_format, messages):
    with pytest.raises(ValueError, match=r"are no alternation.*chatglm3 and glm4 take other"):
        encode_prompt(tiny_tokenizer("chatglm"), messages, prompt_format=prompt_format)


def test_a_refused_conversation_is_named_by_file_and_line():
    tokenizer = tiny_tokenizer("chatglm3")
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 7: .*no answer of the assistant"):
        encode_conversation(tokenizer, talk(*ONE), prompt_format="chatglm3", train_on="every_turn")


def test_a_tokenizer_without_the_formats_tokens_is_refused():
    with pytest.raises(ValueError, match=r"405 tokens\) lacks <\|user\|>"):
        encode_prompt(tiny_tokenizer("chatglm2"), ONE, prompt_format="chatglm3")


@pytest.mark.parametrize("generation", ["chatglm", "chatglm2", "chatglm3", "glm4"])
def test_plain_text_fills_samples_and_ends_once(generation):
    tokenizer = tiny_tokenizer(generation)
    text = "您好 Who are you [gMASK]<|user|> " * 5
    samples = encode_text(tokenizer, text, context_length=20)
    start = tokenizer.encode("")
    assert len(start) == 2
    assert all(sample.input_ids[:2] == start for sample in samples)
    assert all(len(sample.input_ids) == 20 for sample in samples[:-1])
    assert all(
        sample.is_trained == [False] * 2 + [True] * (len(sample.input_ids) - 2)
        for sample in samples
    )
    joined = [index for sample in samples for index in sample.input_ids[2:]]
    assert joined[-1] == tokenizer.eos_token_id
    assert joined.count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(joined[:-1]) == text
    with pytest.raises(ValueError, match=r"context_length=2 leaves no room.*context_length=3"):
        encode_text(tokenizer, text, context_length=2)
