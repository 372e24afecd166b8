"""What the full-size tests share: checkpoints, written when the first test needs them, and rows."""

import functools
import gc
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from glm_experiments.models import load_tokenizer
from tests.full_size.checkpoints import SHIPPED, write_checkpoint


def free_cards() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@pytest.fixture(autouse=True)
def _free_cards() -> Iterator[None]:
    yield
    free_cards()


@pytest.fixture(scope="session")
def find_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """A model's name -> its folder."""
    root = tmp_path_factory.mktemp("models")

    @functools.cache
    def find(name: str) -> Path:
        folder = write_checkpoint(name, root / name)
        free_cards()
        return folder

    yield find
    shutil.rmtree(root)


@pytest.fixture(scope="session")
def full_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Samples of a few tokens less than 1024, half of them labelled."""
    vocabularies = [
        set(load_tokenizer(str(SHIPPED / name)).get_vocab())
        for name in ("tiny_chatglm", "tiny_glm")
    ]
    known = sorted(each for each in set.intersection(*vocabularies) if "一" <= each <= "龥")
    draw = random.Random(0)
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    with file.open("w", encoding="utf-8") as stream:
        for _ in range(400):
            question, reply = ("".join(draw.choices(known, k=k)) for k in (508, 508))
            stream.write(json.dumps({"prompt": question, "response": reply}) + "\n")
    return file
