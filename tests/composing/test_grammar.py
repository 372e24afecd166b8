"""Text as a user types it, and as Hydra's grammar wants it."""

import pytest

from glm_experiments.composing.checking import check_command_line
from glm_experiments.composing.grammar import quote_text


@pytest.mark.parametrize(
    ("typed", "quoted"),
    [
        ("data.assistant_name=小智", "data.assistant_name='小智'"),
        ("data.assistant_name=小智,小明", "data.assistant_name='小智','小明'"),
        ("data.path=[数据/甲 乙.json,b.json]", "data.path=['数据/甲 乙.json',b.json]"),
        ("data.author='Zoë'", "data.author='Zoë'"),
        ("data.author=Ada", "data.author=Ada"),
    ],
)
def test_letters_beyond_ascii_need_no_quotes(typed, quoted):
    assert quote_text(typed) == quoted
    needs = [] if "path" not in typed else ["data=files"]
    assert check_command_line([*needs, typed], multirun="," in typed) == (
        [typed.partition("=")[0]] if "小明" in typed else []
    )


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("data.path=~/a b.json", "data.path=/home/ada/a b.json"),
        ("hydra.run.dir='~/runs'", "hydra.run.dir='/home/ada/runs'"),
        ("data.path=[~/a.json,~/数.json]", "data.path=[/home/ada/a.json,'/home/ada/数.json']"),
        ("data.path=a~/b~c.json", "data.path=a~/b~c.json"),
        ("~tuner", "~tuner"),
    ],
)
def test_a_tilde_is_the_home(typed, read, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert quote_text(typed) == read


def test_what_hydra_itself_cannot_read_is_named_with_what_to_type(typed):
    from glm_experiments import train

    done = typed(train.main, "hydra.run.dir=runs(1)", "tuner.rr=4")
    assert (done.code, done.err) == (
        1,
        "glm-train: - hydra.run.dir=runs(1) can't be read as key=value; if it is text, type "
        "'hydra.run.dir=\"runs(1)\"'\n- there is no key tuner.rr; type tuner.r\n",
    )
