"""The GLM architectures and tokenizers that transformers lacks; published checkpoints made native.

`architectures` has modules, `tokenizers` text and ids, `published` files; they know little of each
other. The modules beside them put a model together: loaded, built anew, made ready for a run.

The public names load on first use, so that importing this package does not import torch.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glm_experiments.models.building import build_model as build_model
    from glm_experiments.models.loading import load_model as load_model
    from glm_experiments.models.tokenizers.tokenizer_loading import load_tokenizer as load_tokenizer
    from glm_experiments.models.tokenizers.vocabulary_match import (
        check_vocabulary as check_vocabulary,
    )

_MODULES = {
    "build_model": "glm_experiments.models.building",
    "load_model": "glm_experiments.models.loading",
    "load_tokenizer": "glm_experiments.models.tokenizers.tokenizer_loading",
    "check_vocabulary": "glm_experiments.models.tokenizers.vocabulary_match",
}

__all__ = ["build_model", "check_vocabulary", "load_model", "load_tokenizer"]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
