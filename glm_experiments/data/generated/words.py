"""Kinds of questions about words and facts: translation, capitals, opposites, dates, colours.

A fact can't be known before it was seen, so a single fact can't be held out. These kinds therefore
ask for two facts at once: every fact is in the training data, the held-out *pairs* are not.
"""

from random import Random

from glm_experiments.data.generated.question import Kind, Language, Operands
from glm_experiments.data.generated.vocabulary import (
    CAPITALS,
    CATEGORIES,
    COLOURED,
    COLOURS,
    COUNTRIES,
    MONTH_LENGTHS,
    MONTHS,
    OPPOSITES,
    WEEKDAYS,
    WORDS,
)

OPPOSITE_OF = {
    word[0]: (word, other) for pair in OPPOSITES for word, other in (pair, (pair[1], pair[0]))
}
CATEGORY_OF = {word: names for names, members in CATEGORIES.values() for word in members}


def _column(language: Language) -> int:
    return 0 if language == "en" else 1


def _join(words: list[str], language: Language) -> str:
    return (", " if language == "en" else "，").join(words)


def _draw_words(rng: Random) -> Operands:
    return tuple(rng.sample(list(WORDS), 2))


def _translate(operands: Operands, language: Language) -> tuple[dict[str, str], str]:
    """English questions translate into Chinese, Chinese ones into English."""
    pairs = [WORDS[str(key)] for key in operands]
    here = _column(language)
    asked = [pair[here] for pair in pairs]
    answer = _join([pair[1 - here] for pair in pairs], "zh" if language == "en" else "en")
    return {"a": asked[0], "b": asked[1]}, answer


def _draw_countries(rng: Random) -> Operands:
    return tuple(rng.sample(list(COUNTRIES), 2))


def _capital(operands: Operands, language: Language) -> tuple[dict[str, str], str]:
    here = _column(language)
    first, second = (COUNTRIES[str(key)][here] for key in operands)
    return {"a": first, "b": second}, _join(
        [CAPITALS[str(key)][here] for key in operands], language
    )


def _country(operands: Operands, language: Language) -> tuple[dict[str, str], str]:
    here = _column(language)
    first, second = (CAPITALS[str(key)][here] for key in operands)
    return (
        {"a": first, "b": second},
        _join([COUNTRIES[str(key)][here] for key in operands], language),
    )


def _draw_adjectives(rng: Random) -> Operands:
    return tuple(rng.sample(list(OPPOSITE_OF), 2))


def _opposite(operands: Operands, language: Language) -> tuple[dict[str, str], str]:
    here = _column(language)
    first, second = (OPPOSITE_OF[str(key)] for key in operands)
    answer = _join([first[1][here], second[1][here]], language)
    return {"a": first[0][here], "b": second[0][here]}, answer


def _draw_coloured(rng: Random) -> Operands:
    return tuple(rng.sample(list(COLOURED), 2))


def _colour(operands: Operands, language: Language) -> tuple[dict[str, str], str]:
    here = _column(language)
    first, second = (COLOURED[str(key)] for key in operands)
    answer = _join([COLOURS[first[1]][here], COLOURS[second[1]][here]], language)
    return {"a": first[0][here], "b": second[0][here]}, answer


def _draw_members(rng: Random) -> Operands:
    return tuple(rng.sample(list(CATEGORY_OF), 2))


def _category(operands: Operands, language: Language) -> tuple[dict[str, str], str]:
    here = _column(language)
    first, second = (str(key) for key in operands)
    answer = _join([CATEGORY_OF[first][here], CATEGORY_OF[second][here]], language)
    return {"a": WORDS[first][here], "b": WORDS[second][here]}, answer


def _draw_odd_one(rng: Random) -> Operands:
    common, other = rng.sample(list(CATEGORIES), 2)
    words = [*rng.sample(list(CATEGORIES[common][1]), 2), rng.choice(list(CATEGORIES[other][1]))]
    rng.shuffle(words)
    return tuple(words)


def _odd_one(operands: Operands, language: Language) -> tuple[dict[str, str], str]:
    here = _column(language)
    keys = [str(key) for key in operands]
    categories = [CATEGORY_OF[key] for key in keys]
    odd = next(
        key for key, names in zip(keys, categories, strict=True) if categories.count(names) == 1
    )
    return {"items": _join([WORDS[key][here] for key in keys], language)}, WORDS[odd][here]


def _draw_days(rng: Random) -> Operands:
    return tuple(
        operand for _ in range(2) for operand in (f"day {rng.randrange(7)}", rng.randint(1, 6))
    )


def _weekday(operands: Operands, language: Language) -> tuple[dict[str, str], str]:
    here = _column(language)
    starts = [int(str(operands[index]).removeprefix("day ")) for index in (0, 2)]
    steps = [int(operands[index]) for index in (1, 3)]
    ends = [(start + step) % 7 for start, step in zip(starts, steps, strict=True)]
    fields = {
        "a": WEEKDAYS[starts[0]][here],
        "b": WEEKDAYS[starts[1]][here],
        "i": str(steps[0]),
        "j": str(steps[1]),
    }
    return fields, _join([WEEKDAYS[end][here] for end in ends], language)


def _draw_months(rng: Random) -> Operands:
    return rng.randrange(12), rng.randrange(12)


def _month_lengths(operands: Operands, language: Language) -> tuple[dict[str, str], str]:
    here = _column(language)
    first, second = map(int, operands)
    fields = {"a": MONTHS[first][here], "b": MONTHS[second][here]}
    return fields, f"{MONTH_LENGTHS[first]},{MONTH_LENGTHS[second]}"


def _next_months(operands: Operands, language: Language) -> tuple[dict[str, str], str]:
    here = _column(language)
    first, second = map(int, operands)
    answer = _join([MONTHS[(month + 1) % 12][here] for month in (first, second)], language)
    return {"a": MONTHS[first][here], "b": MONTHS[second][here]}, answer


WORD_KINDS: tuple[Kind, ...] = (
    Kind(
        "translation",
        {
            "en": ("Translate into Chinese: {a} and {b}.", "What are {a} and {b} in Chinese?"),
            "zh": ("翻译成英语：{a}和{b}。", "{a}和{b}用英语怎么说？"),
        },
        _draw_words,
        _translate,
        share=2,
    ),
    Kind(
        "capitals",
        {
            "en": ("What are the capitals of {a} and {b}?", "Name the capitals of {a} and {b}."),
            "zh": ("{a}和{b}的首都是哪里？", "写出{a}和{b}的首都。"),
        },
        _draw_countries,
        _capital,
    ),
    Kind(
        "countries",
        {
            "en": (
                "Whose capitals are {a} and {b}?",
                "Name the countries with {a} and {b} as capitals.",
            ),
            "zh": ("{a}和{b}是哪国的首都？", "{a}和{b}分别在哪国？"),
        },
        _draw_countries,
        _country,
    ),
    Kind(
        "opposites",
        {
            "en": ("What are the opposites of {a} and {b}?", "Give the opposites: {a} and {b}."),
            "zh": ("{a}和{b}的反义词是什么？", "写出反义词：{a}和{b}。"),
        },
        _draw_adjectives,
        _opposite,
    ),
    Kind(
        "colours",
        {
            "en": ("What colours are {a} and {b}?", "Name the colours of {a} and {b}."),
            "zh": ("{a}和{b}是什么颜色？", "说出{a}和{b}的颜色。"),
        },
        _draw_coloured,
        _colour,
    ),
    Kind(
        "categories",
        {
            "en": (
                "What kinds of words are {a} and {b}?",
                "Which groups do {a} and {b} belong to?",
            ),
            "zh": ("{a}和{b}是哪一类词？", "{a}和{b}属于哪一类？"),
        },
        _draw_members,
        _category,
    ),
    Kind(
        "odd_one_out",
        {
            "en": ("Which word does not fit: {items}?", "Find the odd one: {items}."),
            "zh": ("哪个词不同类：{items}？", "找出不同类的词：{items}。"),
        },
        _draw_odd_one,
        _odd_one,
    ),
    Kind(
        "weekdays",
        {
            "en": (
                "Which day is {i} days after {a} and {j} days after {b}?",
                "Name the day {i} days after {a} and {j} days after {b}.",
            ),
            "zh": ("{a}过{i}天和{b}过{j}天是星期几？", "说出{a}过{i}天和{b}过{j}天的日子。"),
        },
        _draw_days,
        _weekday,
        share=2,
    ),
    Kind(
        "month_lengths",
        {
            "en": ("How many days do {a} and {b} have?", "Give the number of days: {a} and {b}."),
            "zh": ("{a}和{b}有多少天？", "写出天数：{a}和{b}。"),
        },
        _draw_months,
        _month_lengths,
    ),
    Kind(
        "next_months",
        {
            "en": ("Which months follow {a} and {b}?", "Name the months after {a} and {b}."),
            "zh": ("{a}和{b}之后是几月？", "说出{a}和{b}的下个月。"),
        },
        _draw_months,
        _next_months,
    ),
)
