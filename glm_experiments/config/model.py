"""Which GLM, in which precision."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from glm_experiments.config.rules import check, positive


class Dtype(StrEnum):
    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Weights(StrEnum):
    pretrained = "pretrained"
    random = "random"


class AttnImplementation(StrEnum):
    eager = "eager"
    sdpa = "sdpa"
    flex_attention = "flex_attention"


class Dequantize(StrEnum):
    torch = "torch"
    cpm_kernels = "cpm_kernels"


class PromptFormat(StrEnum):
    chatglm = "chatglm"
    chatglm2 = "chatglm2"
    chatglm3 = "chatglm3"
    glm4 = "glm4"
    alpaca = "alpaca"


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    """Which GLM."""

    name: str
    path: str
    """Local folder, hub id, or `package:NAME` for a model that ships with the package."""
    revision: str | None
    """Branch, tag or commit of a hub id; null: its default branch."""
    dtype: Dtype
    """Precision of the frozen weights and of the arithmetic; auto: bfloat16, or float16 on a GPU
    that has none."""
    attn_implementation: AttnImplementation
    dequantize: Dequantize
    """Who turns published int8 and int4 weights into `dtype`."""
    weights: Weights
    """pretrained: from `path`; random: `geometry` with fresh weights, for pretraining."""
    geometry: dict[str, Any]
    """With random weights: fields of the model's own configuration class."""
    vocabulary_size: int | None
    """With random weights: size of the SentencePiece vocabulary built from the training data."""
    attention_modules: list[str]
    """Names of the attention's linear modules, for tuners to target."""
    linear_modules: list[str]
    """Names of every linear module of a layer, for tuners to target."""
    prompt_format: PromptFormat
    """The form in which this model was taught to be asked."""

    def problems(self) -> list[str]:
        problems = positive("model", {"vocabulary_size": self.vocabulary_size})
        random = self.weights is Weights.random
        check(
            problems,
            random == bool(self.geometry),
            "model.geometry describes a model with fresh weights and belongs to "
            "model.weights=random; type model.weights=pretrained model.geometry={} or give both",
        )
        check(
            problems,
            random == (self.vocabulary_size is not None),
            "model.vocabulary_size belongs to model.weights=random (the tokenizer is built from "
            "the training data); type model.vocabulary_size=null, or give both",
        )
        return problems
