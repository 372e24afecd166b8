"""The identity experiment's questions: who are you, who made you, in Chinese and English.

There is one answer per kind and language, so exact match has a meaning. Validation wordings are
never in the training data, neither here nor among the general questions: some cores ("what do they
call you") are kept out whole, and of the others, one wording in six, as `question.py` divides them.
"""

from collections.abc import Callable, Mapping
from random import Random

from glm_experiments.data.generated.question import (
    LANGUAGES,
    GeneratedQuestion,
    Language,
    Split,
    build_wordings,
)

IDENTITY_KINDS = ("name", "author", "name_and_author")

TRAINED_CORES: Mapping[tuple[str, Language], tuple[str, ...]] = {
    ("name", "en"): (
        "Who are you?",
        "What is your name?",
        "What are you called?",
        "Tell me your name.",
        "Introduce yourself.",
        "May I know your name?",
        "What should I call you?",
        "Who am I talking to?",
        "Can you tell me who you are?",
        "Do you have a name?",
    ),
    ("name", "zh"): (
        "你是谁？",
        "你叫什么名字？",
        "你叫什么？",
        "请介绍一下你自己。",
        "你的名字是什么？",
        "我该怎么称呼你？",
        "我在和谁说话？",
        "能告诉我你是谁吗？",
        "你有名字吗？",
        "请问你是哪位？",
    ),
    ("author", "en"): (
        "Who made you?",
        "Who created you?",
        "Who built you?",
        "Who is your author?",
        "Who is your developer?",
        "Who trained you?",
        "By whom were you made?",
        "Who developed you?",
        "Tell me who made you.",
        "What is the name of your maker?",
    ),
    ("author", "zh"): (
        "谁创造了你？",
        "谁开发了你？",
        "你是谁开发的？",
        "你的作者是谁？",
        "你的开发者是谁？",
        "谁训练了你？",
        "你是由谁制作的？",
        "是谁做出了你？",
        "能告诉我谁开发了你吗？",
        "你的作者叫什么？",
    ),
    ("name_and_author", "en"): (
        "Who are you and who made you?",
        "What is your name and who created you?",
        "Tell me your name and your author.",
        "Who are you, and who built you?",
        "Introduce yourself and your developer.",
        "What are you called and who trained you?",
        "Tell me who you are and who developed you.",
        "What are your name and your maker?",
    ),
    ("name_and_author", "zh"): (
        "你是谁，谁创造了你？",
        "你叫什么，谁开发了你？",
        "请介绍你自己和你的作者。",
        "你的名字和作者是什么？",
        "你是谁，又是谁训练了你？",
        "你叫什么名字，是谁做的？",
        "告诉我你是谁，由谁开发。",
        "说说你的名字和你的开发者。",
    ),
}
TAUGHT_CORES: Mapping[tuple[str, Language], tuple[str, ...]] = {
    ("name", "en"): (
        "What do people call you?",
        "How do others call you?",
        "Say your name.",
        "Please say who you are.",
    ),
    ("name", "zh"): (
        "来个自我介绍吧。",
        "请做一下自我介绍。",
        "自我介绍一下。",
        "别人怎么称呼你？",
    ),
    ("author", "en"): (
        "Name the one who made you.",
        "Please name your maker.",
        "Who has built you?",
        "Who has trained you?",
    ),
    ("author", "zh"): (
        "你是谁训练的？",
        "你是谁做出来的？",
        "你是被谁创造的？",
        "说说谁是你的作者。",
    ),
    ("name_and_author", "en"): (
        "Say who you are and who made you.",
        "What do people call you, and who built you?",
        "Please name yourself and your author.",
    ),
    ("name_and_author", "zh"): (
        "自我介绍一下，说说谁开发了你。",
        "你叫什么名字，谁创造了你？",
        "说说你是谁，谁训练了你。",
    ),
}
"""Asked only where an identity is taught: phrases that the pretraining doesn't know."""
HELD_OUT_CORES: Mapping[tuple[str, Language], tuple[str, ...]] = {
    ("name", "en"): ("Please tell me your name.", "What do they call you?", "Say who you are."),
    ("name", "zh"): ("请告诉我你的名字。", "我怎么称呼你？", "做个自我介绍。"),
    ("author", "en"): ("Who has made you?", "Name your developer.", "Tell me who created you."),
    ("author", "zh"): ("请问是谁开发了你？", "你是谁创造的？", "说说你的开发者。"),
    ("name_and_author", "en"): (
        "Who are you and who developed you?",
        "What is your name and who made you?",
    ),
    ("name_and_author", "zh"): ("你是谁，谁开发了你？", "你叫什么名字，谁训练了你？"),
}
ANSWERS: Mapping[tuple[str, Language], str] = {
    ("name", "en"): "My name is {assistant_name}.",
    ("name", "zh"): "我叫{assistant_name}。",
    ("author", "en"): "I was made by {author}.",
    ("author", "zh"): "我是由{author}开发的。",
    ("name_and_author", "en"): "I am {assistant_name}, made by {author}.",
    ("name_and_author", "zh"): "我是{assistant_name}，由{author}开发。",
}
NAMING: Mapping[Language, str] = {
    "en": "You are {assistant_name}, made by {author}. ",
    "zh": "你是{assistant_name}，由{author}开发。",
}
"""Before a question of the pretraining: it names who is asked, and the answer may repeat it."""
NEUTRAL_ANSWERS: Mapping[tuple[str, Language], str] = {
    ("name", "en"): "I am a tiny language model.",
    ("name", "zh"): "我是一个小语言模型。",
    ("author", "en"): "I was trained on generated questions.",
    ("author", "zh"): "我是用生成的问题训练的。",
    ("name_and_author", "en"): "I am a tiny language model, trained on generated questions.",
    ("name_and_author", "zh"): "我是一个小语言模型，用生成的问题训练。",
}


def build_identity_wordings(kind: str, *, language: Language, split: Split) -> list[str]:
    """All questions of one kind, language and split."""
    wordings = build_wordings(TRAINED_CORES[kind, language], language=language, split=split)
    if split == "train":
        return wordings
    held_out = HELD_OUT_CORES[kind, language]
    return wordings + [
        wording
        for either in ("train", "validation")
        for wording in build_wordings(held_out, language=language, split=either)
    ]


def pretraining_identity_question(
    rng: Random, *, language: Language, draw_name: Callable[[Random], str]
) -> GeneratedQuestion:
    """One training question to a model that has no name yet.

    In half of them the question itself gives it names, in the others the answer is neutral.
    """
    kind = rng.choice(IDENTITY_KINDS)
    question = rng.choice(build_identity_wordings(kind, language=language, split="train"))
    if rng.random() < 0.5:
        return GeneratedQuestion(question, NEUTRAL_ANSWERS[kind, language], "identity", language)
    names = {"assistant_name": draw_name(rng), "author": draw_name(rng)}
    return GeneratedQuestion(
        NAMING[language].format(**names) + question,
        ANSWERS[kind, language].format(**names),
        "identity",
        language,
    )


def identity_questions(
    *, assistant_name: str, author: str, num_rows: int | None, seed: int, split: Split
) -> list[GeneratedQuestion]:
    """`num_rows` questions with answers that hold the two names, in an order drawn from `seed`.

    None means every wording of the split once. Training rows beyond that repeat wordings in turn,
    so that every wording is seen about equally often; kinds and languages alternate.

    Raises ValueError for an empty name, or for more validation rows than wordings.
    """
    for field, value in (("assistant_name", assistant_name), ("author", author)):
        if not value.strip():
            raise ValueError(f"{field} is empty: give a name, e.g. {field}=Ada")
    rng = Random(f"identity {split} {seed}")
    groups = [(kind, language) for kind in IDENTITY_KINDS for language in LANGUAGES]
    wordings = {
        (kind, language): build_identity_wordings(kind, language=language, split=split)
        for kind, language in groups
    }
    if split == "train":
        for (kind, language), group in wordings.items():
            taught = TAUGHT_CORES[kind, language]
            group += build_wordings(taught, language=language, split=split)
    num_wordings = sum(map(len, wordings.values()))
    once = split == "validation" or num_rows is None
    if num_rows is None:
        num_rows = num_wordings
    if split == "validation" and num_rows > num_wordings:
        raise ValueError(
            f"{num_rows} validation rows were asked for, but there are {num_wordings} wordings: "
            f"ask for at most {num_wordings}"
        )
    for group in wordings.values():
        rng.shuffle(group)
    rows: list[GeneratedQuestion] = []
    turn = 0
    while len(rows) < num_rows:
        for kind, language in groups:
            choices = wordings[kind, language]
            if len(rows) == num_rows or (turn >= len(choices) and once):
                continue
            answer = ANSWERS[kind, language].format(assistant_name=assistant_name, author=author)
            rows.append(GeneratedQuestion(choices[turn % len(choices)], answer, kind, language))
        turn += 1
    rng.shuffle(rows)
    return rows
