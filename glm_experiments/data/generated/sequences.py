"""Kinds of questions about sequences: sorting, reversing, copying, counting, recalling.

The copying and recalling kinds also use invented names and rare characters, which the tokenizer
spells in bytes: a model that has copied those can be taught any name later.
"""

from random import Random

from glm_experiments.data.generated.question import Kind, Language, Operands
from glm_experiments.data.generated.vocabulary import CAPITALS, THINGS, WORDS

LETTERS = "abcdefghijklmnopqrstuvwxyz"
ORDINALS = {"en": ("first", "second", "third", "fourth"), "zh": ("一", "二", "三", "四")}
MARKS: tuple[str, ...] = ("", "-", *"-!#$%&'()*+,./:;<=>?@[]^_`|~")
RARE = {(0x4E00, 0x9FFF): 8, (0x20000, 0x2A6DF): 6, (0xAC00, 0xD7A3): 4, (0x2010, 0x2BFF): 1}
RARE |= {(0x00C0, 0x07FF): 1}
"""First and last character -> weight: Han, rarer Han, Hangul, symbols, other alphabets."""


def draw_rare_text(rng: Random) -> str:
    """One to three arbitrary characters, each so rare that bytes spell it."""
    ((first, last),) = rng.choices(list(RARE), weights=list(RARE.values()))
    return "".join(chr(rng.randint(first, last)) for _ in range(rng.randint(1, 3)))


def draw_invented_name(rng: Random) -> str:
    """One or two capitalised words of invented syllables, sometimes with a title."""

    def draw_word() -> str:
        syllables = [rng.choice("bdfghklmnprstvwz") + rng.choice("aeiou") for _ in range(2)]
        return "".join([*syllables, rng.choice(["", "n", "r", "s", "l"])]).capitalize()

    title = rng.choice(["Dr. ", "Mr. ", "Ms. "]) if rng.random() < 0.1 else ""
    return title + " ".join(draw_word() for _ in range(rng.randint(1, 2)))


def draw_code(rng: Random) -> str:
    """Letters, a mark and digits: `kd-72`."""
    letters = "".join(rng.choice(LETTERS) for _ in range(rng.randint(1, 3)))
    digits = "".join(rng.choice("0123456789") for _ in range(rng.randint(1, 3)))
    return rng.choice([letters, letters.upper()]) + rng.choice(MARKS) + digits


def draw_name(rng: Random) -> str:
    """A name in either script, sometimes with a number behind it."""
    name = draw_rare_text(rng) if rng.random() < 0.4 else draw_invented_name(rng)
    return name + (f"-{rng.randint(0, 9)}" if rng.random() < 0.2 else "")


def _draw_copying(rng: Random) -> Operands:
    source = rng.randrange(4)
    if source == 0:
        return (draw_code(rng),)
    if source == 1:
        return (draw_name(rng),)
    column = rng.randrange(2)
    words = [WORDS[key][column] for key in rng.sample(list(WORDS), rng.randint(2, 3))]
    return ((" ", "")[column].join(words),)


def _copy(operands: Operands, _language: Language) -> tuple[dict[str, str], str]:
    return {"text": str(operands[0])}, str(operands[0])


def _draw_digits(rng: Random) -> Operands:
    return tuple(rng.sample(range(10), rng.randint(3, 4)))


def _sort_up(operands: Operands, _language: Language) -> tuple[dict[str, str], str]:
    return {"items": ",".join(map(str, operands))}, ",".join(map(str, sorted(operands)))


def _sort_down(operands: Operands, _language: Language) -> tuple[dict[str, str], str]:
    ordered = sorted(map(int, operands), reverse=True)
    return {"items": ",".join(map(str, operands))}, ",".join(map(str, ordered))


def _draw_letters(rng: Random) -> Operands:
    return tuple(rng.sample(LETTERS, rng.randint(3, 4)))


def _reverse(operands: Operands, _language: Language) -> tuple[dict[str, str], str]:
    return {"items": "-".join(map(str, operands))}, "-".join(map(str, reversed(operands)))


def _draw_repeats(rng: Random) -> Operands:
    wanted, other, another = rng.sample(LETTERS, 3)
    num_wanted = rng.randint(1, 4)
    rest = [rng.choice([other, another]) for _ in range(rng.randint(1, 5 - num_wanted))]
    items = [wanted] * num_wanted + rest
    rng.shuffle(items)
    return (wanted, "-".join(items))


def _count(operands: Operands, _language: Language) -> tuple[dict[str, str], str]:
    wanted, items = map(str, operands)
    return {"item": wanted, "items": items}, str(items.split("-").count(wanted))


def _draw_position(rng: Random) -> Operands:
    return (rng.randrange(4), *rng.sample(list(WORDS), 4))


def _pick(operands: Operands, language: Language) -> tuple[dict[str, str], str]:
    position, *keys = operands
    column = 0 if language == "en" else 1
    words = [WORDS[str(key)][column] for key in keys]
    separator = ", " if language == "en" else "，"
    fields = {"ordinal": ORDINALS[language][int(position)], "items": separator.join(words)}
    return fields, words[int(position)]


def _draw_person(rng: Random) -> Operands:
    return (draw_name(rng), rng.choice(list(CAPITALS)))


def _recall_name(operands: Operands, language: Language) -> tuple[dict[str, str], str]:
    name, country = map(str, operands)
    return {"name": name, "place": CAPITALS[country][0 if language == "en" else 1]}, name


def _recall_place(operands: Operands, language: Language) -> tuple[dict[str, str], str]:
    fields, _ = _recall_name(operands, language)
    return fields, fields["place"]


def _draw_owner(rng: Random) -> Operands:
    return (draw_invented_name(rng), rng.choice(list(THINGS)), rng.randint(2, 99))


def _recall_number(operands: Operands, language: Language) -> tuple[dict[str, str], str]:
    name, thing, number = map(str, operands)
    thing = WORDS[thing][0] + "s" if language == "en" else WORDS[thing][1]
    return {"name": name, "thing": thing, "number": number}, number


RECALLING_NAMES = Kind(
    "recalling_names",
    {
        "en": (
            "My name is {name} and I live in {place}. What is my name?",
            "I am {name} from {place}. What is my name?",
        ),
        "zh": ("我叫{name}，住在{place}。我叫什么？", "我是{place}的{name}。我叫什么？"),
    },
    _draw_person,
    _recall_name,
    share=3,
)
RECALLING_PLACES = Kind(
    "recalling_places",
    {
        "en": (
            "My name is {name} and I live in {place}. Where do I live?",
            "I am {name} from {place}. Where am I from?",
        ),
        "zh": ("我叫{name}，住在{place}。我住在哪里？", "我是{place}的{name}。我来自哪里？"),
    },
    _draw_person,
    _recall_place,
)
SEQUENCE_KINDS: tuple[Kind, ...] = (
    Kind(
        "copying",
        {
            "en": ('Repeat "{text}".', 'Copy "{text}".', 'Say "{text}" again.'),
            "zh": ("重复“{text}”。", "照抄“{text}”。", "再说一遍“{text}”。"),
        },
        _draw_copying,
        _copy,
        share=3,
    ),
    Kind(
        "sorting_up",
        {
            "en": ("Sort {items} from small to large.", "Put in rising order: {items}."),
            "zh": ("把{items}从小到大排列。", "升序排列：{items}。"),
        },
        _draw_digits,
        _sort_up,
        share=2,
    ),
    Kind(
        "sorting_down",
        {
            "en": ("Sort {items} from large to small.", "Put in falling order: {items}."),
            "zh": ("把{items}从大到小排列。", "降序排列：{items}。"),
        },
        _draw_digits,
        _sort_down,
        share=2,
    ),
    Kind(
        "reversal",
        {
            "en": ("Reverse {items}.", "Write backwards: {items}."),
            "zh": ("把{items}倒过来写。", "倒序写出：{items}。"),
        },
        _draw_letters,
        _reverse,
        share=2,
    ),
    Kind(
        "counting",
        {
            "en": ("How many {item} are in {items}?", "Count the {item} in {items}."),
            "zh": ("{items}里有几个{item}？", "数一数{items}里的{item}。"),
        },
        _draw_repeats,
        _count,
        share=3,
    ),
    Kind(
        "position",
        {
            "en": ("Which is the {ordinal} word: {items}?", "Give the {ordinal} of {items}."),
            "zh": ("第{ordinal}个词是什么：{items}？", "写出第{ordinal}个词：{items}。"),
        },
        _draw_position,
        _pick,
    ),
    RECALLING_NAMES,
    RECALLING_PLACES,
    Kind(
        "recalling_numbers",
        {
            "en": (
                "{name} has {number} {thing}. How many {thing}?",
                "There are {number} {thing} with {name}. How many?",
            ),
            "zh": (
                "{name}有{number}个{thing}。有几个{thing}？",
                "{number}个{thing}归{name}。一共几个？",
            ),
        },
        _draw_owner,
        _recall_number,
    ),
)
