"""The quoting kind: repeat words of the other questions in an arbitrary order.

Whatever a question is worded with is so written in an answer as well. A token that no answer ever
holds gets an output row that adapters beside frozen weights can't tell from its like.
"""

import re
from collections.abc import Iterable, Mapping
from random import Random

from glm_experiments.data.generated.question import ENDINGS, OPENINGS, Kind, Language, Operands

CORES: Mapping[Language, tuple[str, ...]] = {
    "en": ('Quote "{text}".', 'Write "{text}" once more.'),
    "zh": ("引用“{text}”。", "再写一次“{text}”。"),
}


def build_quoting_kind(texts: Iterable[str], *, share: int) -> Kind:
    """The kind that quotes from `texts`: two to four English words or Chinese characters.

    `{fields}` in the texts are left out.
    """
    parts = (
        part for table in (OPENINGS, ENDINGS, CORES) for group in table.values() for part in group
    )
    joined = re.sub(r"\{\w+\}", " ", " ".join((*texts, *parts)))
    pools = (
        ((" ", "-"), sorted(set(re.findall(r"[A-Za-z]+[.,?]?", joined)))),
        (("",), sorted(set(re.findall(r"[^\x00-\x7f]", joined)))),
    )

    def draw_quotation(rng: Random) -> Operands:
        separators, pool = rng.choice(pools)
        return (rng.choice(separators).join(rng.choices(pool, k=rng.randint(2, 4))),)

    return Kind("quoting", CORES, draw_quotation, _quote, share=share)


def _quote(operands: Operands, _language: Language) -> tuple[dict[str, str], str]:
    return {"text": str(operands[0])}, str(operands[0])
