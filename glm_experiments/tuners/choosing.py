"""Which tuner a config's type means: the one place that knows them all."""

from __future__ import annotations

from typing import Any

from glm_experiments.config import SCHEMAS
from glm_experiments.config import tuner as schemas
from glm_experiments.tuners.freeze import Freeze
from glm_experiments.tuners.full import Full
from glm_experiments.tuners.interface import Tuner
from glm_experiments.tuners.lora import Lora
from glm_experiments.tuners.p_tuning_v2 import PTuningV2


def choose_tuner(schema: type[schemas.TunerConfig]) -> Tuner[Any]:
    """What tunes by configs of this type; a type, since of a saved adapter there may be no more."""
    match schema:
        case schemas.LoraConfig:
            return Lora()
        case schemas.PTuningV2Config:
            return PTuningV2()
        case schemas.FreezeConfig:
            return Freeze()
        case schemas.FullConfig:
            return Full()
        case _:
            raise AssertionError(f"no tuner for {schema.__name__}: it has no case in {__name__}")


def kind_of_tuner(tuner: Tuner[Any]) -> str:
    """Which kind a tuner is, as the schemas name it."""
    kinds = SCHEMAS["tuner"].items()
    return next(kind for kind, schema in kinds if type(choose_tuner(schema)) is type(tuner))
