"""Changes what one object of a class does, by a subclass made for it: a mixin before its class.

Knows neither models nor what is mixed in. The new class goes by the name of the old one, which
libraries look at (saved configs, layers that must not be split), and is one for all its objects.
"""

import functools
from typing import Any

from torch import nn


def mix_in(module: nn.Module, mixin: type) -> None:
    """Make `module`, in place, an instance of its class with `mixin` before it; once."""
    if not isinstance(module, mixin):
        cls: Any = type(module)
        module.__class__ = mixed_class(cls, mixin)


def take_out(module: nn.Module, mixin: type) -> None:
    """Undo `mix_in`, whatever was mixed in since; nothing where it isn't mixed in."""
    if isinstance(module, mixin):
        module.__class__ = _class_without(type(module), mixin)


@functools.cache  # one class each
def mixed_class(cls: Any, mixin: Any) -> Any:
    """The subclass of `cls` that `mix_in` gives."""
    names = {"__module__": cls.__module__, "__doc__": cls.__doc__}
    return type(cls.__name__, (mixin, cls), names)


def _class_without(cls: Any, mixin: type) -> Any:
    outer, inner = cls.__bases__
    return inner if outer is mixin else mixed_class(_class_without(inner, mixin), outer)
