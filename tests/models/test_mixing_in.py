"""One object's class is changed in place, under its name, and given back."""

import pytest
from torch import nn

from glm_experiments.models.mixing_in import mix_in, take_out


class Doubled:
    def __call__(self, number):
        return 2 * super().__call__(number)


class Negative:
    def __call__(self, number):
        return -super().__call__(number)


class Plain(nn.Module):
    """Adds one."""

    def forward(self, number):
        return number + 1


def test_an_object_changes_and_others_do_not():
    changed, other = Plain(), Plain()
    mix_in(changed, Doubled)
    assert (changed(3), other(3)) == (8, 4)
    assert isinstance(changed, Plain)
    names = ("__name__", "__module__", "__doc__")
    assert [getattr(type(changed), name) for name in names] == [
        getattr(Plain, name) for name in names
    ]


def test_one_class_for_all_and_once_for_each():
    first, second = Plain(), Plain()
    for module in (first, second, first):
        mix_in(module, Doubled)
    assert type(first) is type(second)
    assert first(3) == 8


@pytest.mark.parametrize("gone", [Doubled, Negative])
def test_either_is_taken_out_and_the_other_stays(gone):
    module = Plain()
    mix_in(module, Doubled)
    mix_in(module, Negative)
    assert module(3) == -8
    take_out(module, gone)
    assert module(3) == {Doubled: -4, Negative: 8}[gone]
    take_out(module, gone)
    take_out(module, {Doubled: Negative, Negative: Doubled}[gone])
    assert type(module) is Plain
