"""Damaged files and random words: every reader and loader answers in time and names what is wrong.

Two thousand cases of one seed. A case's number is written down before it runs, below pytest's
folder, so that a process that dies says of which: `pytest tests/test_fuzz.py -k KIND`, then `ONE`.
"""

from __future__ import annotations

import copy
import csv
import faulthandler
import io
import json
import logging
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from glm_experiments import runs
from glm_experiments.composing.checking import check_command_line
from glm_experiments.composing.loader import CONF_DIR
from glm_experiments.config import SCHEMAS, DataFormat, LongAnswers, OnBadRow, PromptFormat
from glm_experiments.data.encoding import encode_splits
from glm_experiments.data.splits import load_splits
from glm_experiments.data.tokenisation import TokenSettings, check_tokenizer
from glm_experiments.models import load_model, load_tokenizer
from glm_experiments.models.published.locations import SHIPPED
from glm_experiments.record.files import numbered_checkpoints
from glm_experiments.training import checkpoints
from glm_experiments.tuners import apply_tuner, load_adapter, save_adapter
from tests.data.configs import files_config
from tests.mutations import ODD_VALUES, damage_bytes, damage_file, damage_value
from tests.running import TINY
from tests.tiny_tokenizers import tiny_tokenizer, write_rank_file
from tests.tuners.tiny_models import build_glm, freeze_config, lora_config, p_tuning_config

pytestmark = pytest.mark.slow

SEED = 11
SECONDS_A_CASE = 10
"""For a case of milliseconds; a machine may be busy."""
MOST_MEMORY = 8 << 30
"""Address space that a case may take beside what the process has."""
ONE: int | None = None
"""The only case to run, for whoever looks into it."""

# A case: damages a copy of something and reads it; returns the words of which an error must name
# one, and what reads it.
Case = Callable[[Random, Path], tuple[list[str], Callable[[], object]]]


class Hangs(BaseException):
    """A case takes too long."""


@contextmanager
def limited() -> Iterator[None]:
    """Inside, a case that hangs is ended, also in native code, and one that grows is refused."""

    def stop(_signum: int, _frame: object) -> None:
        raise Hangs

    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MOST_MEMORY
    former = signal.signal(signal.SIGALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, former)
        resource.setrlimit(resource.RLIMIT_AS, before)


def find_fault(words: list[str], read: Callable[[], object]) -> str | None:
    """How a reader misbehaved; None: it said what is wrong; nothing: it read."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS_A_CASE)
    faulthandler.dump_traceback_later(3 * SECONDS_A_CASE, exit=True, file=sys.__stderr__)
    try:
        read()
        return ""
    except Hangs:
        return "hangs"
    except (ValueError, RuntimeError, OSError) as error:
        if any(word and word in str(error) for word in words):
            return None
        return f"names none of {words}: {type(error).__name__}: {error}"
    except Exception as error:
        return f"unnamed: {type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def find_faults(kind: str, case: Case, num: int, folder: Path) -> tuple[list[str], int]:
    """What misbehaved of so many cases of a kind, and how many were read in spite of it all."""
    faults, num_read = [], 0
    with limited():
        for number in range(num) if ONE is None else [ONE]:
            (folder / "case").write_text(f"{kind} {number}\n")
            home = folder / str(number)
            home.mkdir()
            words, read = case(Random(f"{SEED} {kind} {number}"), home)
            fault = find_fault(words, read)
            num_read += fault == ""
            if fault:
                faults.append(f"{kind} {number}: {fault[:600]}")
            shutil.rmtree(home, ignore_errors=True)
    return faults, num_read


# Data files

TALK = [{"role": "user", "content": "谁?"}, {"role": "assistant", "content": "me"}]
GPT = [{"from": "human", "value": "who?"}, {"from": "gpt", "value": "我"}]
ROWS: dict[str, dict[str, Any]] = {
    "alpaca": {"instruction": "add", "input": "1, 2", "output": "3", "history": [["a", "b"]]},
    "prompt_response": {"prompt": 'say "hi"', "response": "你好\nhi"},
    "messages": {"messages": [{"role": "system", "content": "be brief"}, *TALK]},
    "sharegpt": {"conversations": GPT},
    "text": {"text": "once upon a time 从前"},
}


def spell_rows(rows: list[Any], suffix: str) -> bytes:
    """Rows as the text of a file."""
    if suffix in (".json", ".jsonl"):
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        text = f"[{', '.join(lines)}]" if suffix == ".json" else "\n".join(lines) + "\n"
        return text.encode(errors="surrogatepass")
    flat = [row if isinstance(row, dict) else {"odd": row} for row in rows]
    if suffix == ".txt":
        return "\n".join(str(row) for row in flat).encode(errors="surrogatepass")
    table = io.StringIO()
    columns = [str(name) for name in flat[0]]
    writer = csv.writer(table, delimiter="\t" if suffix == ".tsv" else ",", escapechar="\\")
    writer.writerow(columns)
    for row in flat:
        writer.writerow(["" if each is None else str(each) for each in row.values()])
    return table.getvalue().encode(errors="surrogatepass")


def data_case(rng: Random, home: Path) -> tuple[list[str], Callable[[], object]]:
    form = rng.choice(list(ROWS))
    rows: list[Any] = [copy.deepcopy(ROWS[form]) for _ in range(rng.choice((1, 3, 8, 30)))]
    for _ in range(rng.choice((0, 1, 3))):
        place = rng.randrange(len(rows))
        rows[place] = damage_value(rows[place], rng)
    if rng.random() < 0.1:
        rows[-1] = json.loads('{"text": ' + "[" * 900 + "]" * 900 + "}")
    file = home / f"rows{rng.choice(('.json', '.jsonl', '.csv', '.tsv', '.txt'))}"
    content = spell_rows(rows, file.suffix)
    for _ in range(rng.choice((0, 1, 1, 2))):
        content = damage_bytes(content, rng)
    file.write_bytes(content)
    config = files_config(
        str(file),
        format=rng.choice((None, None, DataFormat(form), *DataFormat)),
        prompt_column=rng.choice((None, None, None, "prompt", "text", "\ud800")),
        on_bad_row=rng.choice(list(OnBadRow)),
        max_bad_share=rng.choice((0.0, 0.5, 1.0)),
        long_answers=rng.choice((LongAnswers.cut, *LongAnswers)),
        num_validation_rows=rng.choice((0, 0, 1)),
        context_length=rng.choice((2, 8, 512, 512)),
        packing=rng.random() < 0.2,
        prompt_format=PromptFormat.chatglm3,
        cache_dir=str(home / "cache"),
    )

    def read() -> None:
        splits = load_splits(config, rejected_file=home / "rejected.jsonl")
        assert splits.train
        tokenizer = tiny_tokenizer("chatglm3")
        encode_splits(splits, tokenizer, config=config, longest=rng.choice((None, 64)))

    return [str(file), "data."], read


# Folders of models, adapters and runs


def copy_damaged(source: Path, home: Path, rng: Random, names: list[str]) -> tuple[Path, list[str]]:
    """A copy of a folder in which one file is damaged, rarely two; the words that tell of it."""
    folder = home / "damaged"
    shutil.copytree(source, folder, copy_function=os.link)
    chosen = sorted(set(rng.choices(names, k=rng.choice((1, 1, 1, 2)))))
    for name in chosen:
        damage_file(folder / name, rng)
    return folder, [str(folder), *(Path(name).name for name in chosen)]


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A folder of each kind of adapter."""
    made = []
    for config in (lora_config(), p_tuning_config(prefix_projection=True), freeze_config(1)):
        folder = tmp_path_factory.mktemp("adapters") / config.name
        save_adapter(
            apply_tuner(build_glm(), config), folder, prompt_format="chatglm3", base="glm-of-seed-0"
        )
        made.append(folder)
    bare = tmp_path_factory.mktemp("adapters") / "published"
    bare.mkdir()
    tensors = {"transformer.prefix_encoder.embedding.weight": torch.zeros(4, 3 * 2 * 2 * 8)}
    torch.save(tensors, bare / "pytorch_model.bin")
    (bare / "config.json").write_text('{"pre_seq_len": 4, "_name_or_path": "glm-of-seed-0"}')
    return [*made, bare]


def adapter_case(adapters: list[Path]) -> Case:
    base = build_glm()

    def case(rng: Random, home: Path) -> tuple[list[str], Callable[[], object]]:
        source = rng.choice(adapters)
        names = [path.name for path in source.iterdir()]
        folder, words = copy_damaged(source, home, rng, names)
        model = copy.deepcopy(base)
        before = set(dict(model.named_parameters()))

        def read() -> None:
            try:
                load_adapter(model, folder)
            except (ValueError, RuntimeError, OSError):
                assert set(dict(model.named_parameters())) == before, "the refused adapter stayed"
                raise

        return words, read

    return case


def model_case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    from tests.models.architectures.chatglm.tiny_chatglm import build_model
    from tests.models.tiny_checkpoints import write_native, write_published

    home = tmp_path_factory.mktemp("models")
    write_native(home / "native")
    write_native(home / "glm4", model_type="glm4")
    write_published(home / "published", num_shards=2)
    write_published(home / "zip", suffix=".bin")
    build_model().save_pretrained(home / "version 1")
    sources = sorted(home.iterdir())

    def case(rng: Random, home: Path) -> tuple[list[str], Callable[[], object]]:
        source = rng.choice(sources)
        names = [path.name for path in source.iterdir()]
        names += 3 * [name for name in names if name == "config.json"]
        folder, words = copy_damaged(source, home, rng, names)
        return words, lambda: load_model(folder)

    return case


def tokenizer_case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    home = tmp_path_factory.mktemp("tokenizers")
    for name in ("tiny_glm", "tiny_chatglm"):
        shutil.copytree(SHIPPED / name, home / name, ignore=shutil.ignore_patterns("*.safetensors"))
    (home / "glm4").mkdir()
    write_rank_file(home / "glm4")
    formats = {"tiny_glm": "chatglm3", "tiny_chatglm": "chatglm", "glm4": "glm4"}

    def case(rng: Random, home_of_case: Path) -> tuple[list[str], Callable[[], object]]:
        name = rng.choice(list(formats))
        names = [path.name for path in (home / name).iterdir()]
        folder, words = copy_damaged(home / name, home_of_case, rng, names)
        settings = TokenSettings(
            prompt_format=formats[name],
            train_on="every_turn",
            long_answers=LongAnswers.cut,
            context_length=64,
            text_length=64,
        )

        def read() -> None:
            tokenizer = load_tokenizer(folder)
            try:
                check_tokenizer(tokenizer, settings)
            except ValueError as error:  # of the prompt format, which knows no file
                raise ValueError(f"{folder}: {error}") from error

        # A tokenizer beside a config.json of another vocabulary: both sizes are named.
        return [*words, "do not belong together"], read

    return case


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory, typed_once: Any) -> Path:
    """A finished run with a checkpoint."""
    folder: Path = tmp_path_factory.mktemp("run") / "run"
    overrides = ("training.eval_steps=1", "evaluation.before=false", "evaluation.after=false")
    assert typed_once.train(folder, *overrides, tiny=TINY).code == 0
    return folder


def run_case(run_dir: Path) -> Case:
    step = f"checkpoint-{max(numbered_checkpoints(run_dir))}"
    names = [f"{step}/trainer_state.json", f"{step}/scheduler.pt", f"{step}/adapter/adapter.json"]
    names += 2 * ["results.json", ".hydra/config.yaml", f"{step}/complete.json", "config.json"]

    def case(rng: Random, home: Path) -> tuple[list[str], Callable[[], object]]:
        folder, words = copy_damaged(run_dir, home, rng, names)
        words += [f"{section}." for section in ("model", "data", "training", "evaluation")]
        # The config is read from the first of these that is there, then from Hydra's.
        for name in ("config.json", "results.json"):
            if rng.random() < 0.5 and (folder / name).is_file():
                (folder / name).unlink()

        def read() -> None:
            for act in rng.sample(acts, 2):
                act()

        acts: list[Callable[[], object]] = [
            lambda: runs.read_config(folder, []),
            lambda: runs.find_adapter(folder, "best"),
            lambda: runs.find_adapter(folder, step.partition("-")[2]),
            lambda: checkpoints.find_last_complete(folder),
        ]
        return words, read

    return case


# Command lines

PIECES = ("=", "+", "~", "++", ".", ",", "[", "]", "{", "}", "'", '"', "$", "${", ":", "(", ")")
PIECES += ("\\", " ", "\t", "\0", "null", "@", "#", "%", "小", "🙂", "\u2028", "*", "/", "-", "-m")
KEYS = ("tuner.r", "seed", "name", "model.path", "data.path", "training.extra", "model.geometry")
KEYS += ("tuner", "data", "experiment", "training.batch_size", "data.author", "hydra.run.dir")
KEYS += ("tuner.target_modules", "evaluation.metrics", "parallelism.devices", "tracking.tags")
OPTIONS = [path.stem for group in SCHEMAS for path in (CONF_DIR / group).glob("*.yaml")]
VALUES = (
    *map(str, ODD_VALUES),
    "1e9",
    "-0",
    "0x10",
    "${seed}",
    "${nothing}",
    "???",
    "[1,2",
    "{a:1",
)
VALUES += ("${oc.env:HOME}", "${oc.env:NOWHERE}", "choice(1,2)", "range(1,3)", "glob(*)", "[[[]]]")


def command_line_case(rng: Random, _home: Path) -> tuple[list[str], Callable[[], object]]:
    def word() -> str:
        key = rng.choice((*KEYS, *KEYS, "".join(rng.choices((*KEYS, *PIECES), k=3))))
        value = rng.choice((*VALUES, *OPTIONS, "".join(rng.choices(PIECES, k=rng.randrange(6)))))
        typed = f"{rng.choice(('', '', '', '', '+', '++', '~'))}{key}={value}"
        if rng.random() < 0.3:
            place = rng.randrange(len(typed) + 1)
            typed = typed[:place] + rng.choice(PIECES) + typed[place + rng.randrange(3) :]
        return typed[:400]

    typed = [word() for _ in range(rng.choice((1, 1, 2)))]
    words = [part for each in typed for part in (each, repr(each)[1:-1])]
    words += [each.lstrip("+~").partition("=")[0] for each in typed]
    words += [each.partition("=")[2] for each in typed]
    # A key of an option is named with its section's.
    words += [f"{group}." for group in ("model", "tuner", "data", "training", "tracking")]
    return words, lambda: check_command_line(typed, multirun=rng.random() < 0.2)


@pytest.mark.parametrize("kind", ["data", "adapter", "model", "tokenizer", "run", "command_line"])
def test_what_is_damaged_is_named(
    kind: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    made: dict[str, tuple[int, Callable[[], Case]]] = {
        "data": (1020, lambda: data_case),
        "adapter": (250, lambda: adapter_case(request.getfixturevalue("adapters"))),
        "model": (250, lambda: model_case(tmp_path_factory)),
        "tokenizer": (250, lambda: tokenizer_case(tmp_path_factory)),
        "run": (200, lambda: run_case(request.getfixturevalue("run_dir"))),
        "command_line": (30, lambda: command_line_case),
    }
    assert sum(num for num, _ in made.values()) == 2000
    num, make = made[kind]
    logging.disable(logging.ERROR)  # of what is read, and warned of, a thousand times
    try:
        faults, num_read = find_faults(kind, make(), num, tmp_path)
    finally:
        logging.disable(logging.NOTSET)
    refused = num - num_read - len(faults)
    assert min(num_read, refused) > num / 20, f"{num_read} of {num} were read, {refused} refused"
    assert not faults, "\n".join([f"{len(faults)} of {num}:", *faults])
