"""The figure that a sweeper optimises: found among what was measured, or measured for it alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from glm_experiments.config import LOSS, Objective
from glm_experiments.evaluation.measuring import Evaluation

if TYPE_CHECKING:
    from glm_experiments.data.encoding import ValidationSet

log = logging.getLogger(__name__)


def check_objective(aim: Objective | None, validation: Mapping[str, ValidationSet]) -> None:
    """Find out before anything is loaded whether the objective can be measured.

    Raises:
        ValueError: where it compares answers, and nothing is asked.
    """
    if aim is None:
        log.info("nothing is held out, so this run has no objective for a sweeper")
        return
    asks = bool(validation[aim.set_name].questions)
    if not asks and aim.metric not in (LOSS, "perplexity"):
        raise ValueError(
            f"objective={aim}: {aim.set_name} is plain text, so nothing is asked and answered; "
            f"type objective={aim.set_name}/perplexity"
        )


def find_objective(
    aim: Objective | None,
    validation: Mapping[str, ValidationSet],
    measured: Mapping[str, Evaluation],
    *,
    measure_loss: Callable[[ValidationSet], float],
) -> dict[str, Any]:
    """The objective's name and value, for the record; nothing where nothing is held out.

    measured: of the tuned model, where the config asks for it. measure_loss: of the tuned model.
    """
    if aim is None:
        return {}
    figures = measured[aim.set_name].figures() if measured else {}
    value = figures.get(aim.metric)
    if value is None:
        assert aim.metric == LOSS, f"{aim} was not measured"
        value = measure_loss(validation[aim.set_name])
    return {"name": str(aim), "value": value}
