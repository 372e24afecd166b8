"""Jobs that fail for a reason that isn't theirs stop a device; those that fail for theirs don't."""

import pytest

from glm_experiments.sweeps.breaker import Breaker
from glm_experiments.sweeps.outcome import Outcome

FULL = Outcome(status="failed", error="RuntimeError", message="no space left for /a/b1.json")
GONE = Outcome(status="out_of_memory", error="OutOfMemoryError", message="tried 1.5 GiB")
FINE = Outcome(status="finished")


def stops(*ends: tuple[Outcome, dict[str, object]], place: str = "0") -> list[bool]:
    """After which of some jobs, in their order, a device is stopped."""
    varying = {key for _, settings in ends for key in settings}
    breaker = Breaker(varying)
    return [breaker.notice(place, outcome, settings) is not None for outcome, settings in ends]


def test_three_equal_failures_that_no_setting_explains_stop_a_device():
    assert stops(*((FULL, {"seed": seed}) for seed in range(3))) == [False, False, True]


def test_what_differs_in_a_message_is_no_other_failure():
    other = Outcome(status="failed", error="RuntimeError", message="no space left for /c/d2.json")
    ends = [FULL, other, FULL]
    assert stops(*((end, {"seed": i}) for i, end in enumerate(ends))) == [False, False, True]


@pytest.mark.parametrize("between", [FINE, GONE])
def test_they_are_in_a_row(between):
    ends = [FULL, FULL, between, FULL, FULL]
    assert not any(stops(*((end, {"seed": i}) for i, end in enumerate(ends))))


def test_a_value_that_all_of_them_have_explains_them():
    grid = [{"tuner.r": 256, "seed": seed} for seed in range(3)]
    assert not any(stops((FINE, {"tuner.r": 8, "seed": 0}), *((GONE, each) for each in grid)))
    # Until one fails that hasn't.
    other = (GONE, {"tuner.r": 8, "seed": 1})
    assert stops((FINE, {"tuner.r": 8, "seed": 0}), *((GONE, e) for e in grid), other)[-1]


def test_what_is_larger_than_all_that_fitted_explains_that_memory_ran_out():
    lengths = [(FINE, {"length": 64})] + [(GONE, {"length": 512 * i}) for i in (1, 2, 3)]
    assert not any(stops(*lengths))
    assert stops(*((FULL, settings) if i else (FINE, settings)
                   for i, (_, settings) in enumerate(lengths)))[-1]  # fmt: skip


def test_each_device_has_its_own_row():
    breaker = Breaker({"seed"})
    for seed, place in enumerate("0101"):
        assert breaker.notice(place, FULL, {"seed": seed}) is None
    assert "4 jobs" not in (said := breaker.notice("0", FULL, {"seed": 5}) or "")
    assert said.startswith("3 jobs in a row ended on 0 in the same way")
