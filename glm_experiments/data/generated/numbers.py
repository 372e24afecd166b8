"""Kinds of questions about numbers: sums, comparisons, order and number words."""

from random import Random

from glm_experiments.data.generated.question import Kind, Language, Operands

LARGEST = 99

ONES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEENS = ["ten", "eleven", "twelve", "thirteen", "fourteen"]
TEENS += ["fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
CHINESE_DIGITS = "零一二三四五六七八九"


def spell_number(number: int, *, language: Language) -> str:
    """`number` (0 to 99) in words: `forty-two`, `四十二`."""
    tens, ones = divmod(number, 10)
    if language == "zh":
        if number < 10:
            return CHINESE_DIGITS[number]
        return (
            (CHINESE_DIGITS[tens] if tens > 1 else "")
            + "十"
            + (CHINESE_DIGITS[ones] if ones else "")
        )
    if number < 20:
        return (ONES + TEENS)[number]
    return TENS[tens - 2] + (f"-{ONES[ones]}" if ones else "")


def _draw_two(rng: Random) -> Operands:
    return rng.randint(0, LARGEST), rng.randint(0, LARGEST)


def _draw_two_different(rng: Random) -> Operands:
    first, second = rng.sample(range(LARGEST + 1), 2)
    return first, second


def _draw_small_pair(rng: Random) -> Operands:
    return rng.randint(0, 49), rng.randint(0, 49)


def _add(operands: Operands, _language: Language) -> tuple[dict[str, str], str]:
    a, b = map(int, operands)
    return {"a": str(a), "b": str(b)}, str(a + b)


def _subtract(operands: Operands, _language: Language) -> tuple[dict[str, str], str]:
    small, large = sorted(map(int, operands))
    return {"a": str(large), "b": str(small)}, str(large - small)


def _larger(operands: Operands, _language: Language) -> tuple[dict[str, str], str]:
    a, b = map(int, operands)
    return {"a": str(a), "b": str(b)}, str(max(a, b))


def _smaller(operands: Operands, _language: Language) -> tuple[dict[str, str], str]:
    a, b = map(int, operands)
    return {"a": str(a), "b": str(b)}, str(min(a, b))


def _draw_three_digits(rng: Random) -> Operands:
    return tuple(rng.sample(range(10), 3))


def _largest(operands: Operands, _language: Language) -> tuple[dict[str, str], str]:
    return {"items": ",".join(map(str, operands))}, str(max(map(int, operands)))


def _draw_number(rng: Random) -> Operands:
    return (rng.randint(1, 999),)


def _parity(operands: Operands, language: Language) -> tuple[dict[str, str], str]:
    number = int(operands[0])
    names = ("even", "odd") if language == "en" else ("偶数", "奇数")
    return {"a": str(number)}, names[number % 2]


def _successor(operands: Operands, _language: Language) -> tuple[dict[str, str], str]:
    number = int(operands[0])
    return {"a": str(number)}, str(number + 1)


def _draw_steps(rng: Random) -> Operands:
    return rng.randint(0, 69), rng.randint(1, 10)


def _continue(operands: Operands, _language: Language) -> tuple[dict[str, str], str]:
    start, step = map(int, operands)
    items = [str(start + step * index) for index in range(4)]
    return {"items": ",".join(items[:3])}, items[3]


def _words_to_digits(operands: Operands, language: Language) -> tuple[dict[str, str], str]:
    a, b = map(int, operands)
    spelled = [spell_number(number, language=language) for number in (a, b)]
    return {"a": spelled[0], "b": spelled[1]}, f"{a},{b}"


def _digits_to_words(operands: Operands, language: Language) -> tuple[dict[str, str], str]:
    a, b = map(int, operands)
    separator = ", " if language == "en" else "，"
    spelled = separator.join(spell_number(number, language=language) for number in (a, b))
    return {"a": str(a), "b": str(b)}, spelled


NUMBER_KINDS: tuple[Kind, ...] = (
    Kind(
        "addition",
        {
            "en": ("What is {a}+{b}?", "{a}+{b}=?", "Compute {a} plus {b}.", "Add {a} and {b}."),
            "zh": ("{a}加{b}等于几？", "{a}+{b}=？", "计算{a}加{b}。", "求{a}与{b}的和。"),
        },
        _draw_small_pair,
        _add,
        share=4,
    ),
    Kind(
        "subtraction",
        {
            "en": ("What is {a}-{b}?", "{a}-{b}=?", "Compute {a} minus {b}."),
            "zh": ("{a}减{b}等于几？", "{a}-{b}=？", "计算{a}减{b}。"),
        },
        _draw_small_pair,
        _subtract,
        share=4,
    ),
    Kind(
        "larger",
        {
            "en": ("Which is larger, {a} or {b}?", "Give the larger of {a} and {b}."),
            "zh": ("{a}和{b}哪个更大？", "写出{a}和{b}中较大的数。"),
        },
        _draw_two_different,
        _larger,
        share=2,
    ),
    Kind(
        "smaller",
        {
            "en": ("Which is smaller, {a} or {b}?", "Give the smaller of {a} and {b}."),
            "zh": ("{a}和{b}哪个更小？", "写出{a}和{b}中较小的数。"),
        },
        _draw_two_different,
        _smaller,
        share=2,
    ),
    Kind(
        "largest",
        {
            "en": ("Which is the largest of {items}?", "Find the largest number in {items}."),
            "zh": ("{items}中最大的是哪个？", "找出{items}里最大的数。"),
        },
        _draw_three_digits,
        _largest,
    ),
    Kind(
        "parity",
        {
            "en": ("Is {a} even or odd?", "Even or odd: {a}?"),
            "zh": ("{a}是奇数还是偶数？", "判断奇偶：{a}。"),
        },
        _draw_number,
        _parity,
    ),
    Kind(
        "successor",
        {
            "en": ("Which number comes right after {a}?", "What follows {a}?"),
            "zh": ("{a}的下一个数是几？", "{a}后面是哪个数？"),
        },
        _draw_number,
        _successor,
        share=2,
    ),
    Kind(
        "series",
        {
            "en": ("Continue the series {items}.", "What comes next in {items}?"),
            "zh": ("继续这个数列：{items}。", "{items}之后是什么数？"),
        },
        _draw_steps,
        _continue,
        share=3,
    ),
    Kind(
        "number_reading",
        {
            "en": ("Write {a} and {b} in digits.", "How are {a} and {b} written in digits?"),
            "zh": ("用数字写出{a}和{b}。", "{a}和{b}用数字怎么写？"),
        },
        _draw_two,
        _words_to_digits,
    ),
    Kind(
        "number_spelling",
        {
            "en": ("Write {a} and {b} in words.", "How do you spell {a} and {b}?"),
            "zh": ("用汉字写出{a}和{b}。", "{a}和{b}用汉字怎么写？"),
        },
        _draw_two,
        _digits_to_words,
    ),
)
