"""How many jobs compute at once, and which devices each sees."""

import dataclasses

import pytest

from glm_experiments.sweeps.options import Options
from glm_experiments.sweeps.seats import Seat, Seats

GIVEN = Options(
    num_jobs=None,
    jobs_per_device=1,
    devices=None,
    on_failure="continue",
    retry=["killed"],
    timeout=None,
    heartbeat_timeout=10,
)


def seats(*visible: str, num_cores: int = 8, **options: object) -> Seats:
    return Seats(dataclasses.replace(GIVEN, **options), visible=visible, num_cores=num_cores)


def test_each_job_has_a_device_of_its_own():
    room = seats("0", "1")
    first, second = room.take(1), room.take(1)
    assert (first, second) == (Seat(devices=("0",)), Seat(devices=("1",)))
    assert room.take(1) is None
    room.leave(first)
    assert room.take(1) == first
    assert room.num_threads == 4


def test_a_job_of_several_devices_waits_until_they_are_free():
    room = seats("0", "1", "2")
    one = room.take(1)
    assert room.take(None) is None  # all of them
    both = room.take(2)
    assert both == Seat(devices=("1", "2"))
    room.leave(one)
    room.leave(both)
    assert room.take(None) == Seat(devices=("0", "1", "2"))
    assert room.take(0) == Seat(devices=())  # on the CPU
    assert seats("0").take(8) == Seat(devices=("0",))  # says itself that there are too few


def test_small_jobs_share_a_device():
    room = seats("0", "1", jobs_per_device=2)
    assert [room.take(1).devices[0] for _ in range(4)] == ["0", "1", "0", "1"]
    assert room.take(1) is None


def test_the_cpu_takes_one_job_unless_told():
    assert [seats().take(1), seats().num_threads] == [Seat(devices=()), 8]
    room = seats(num_jobs=2)
    assert [room.take(1), room.take(1), room.take(1)] == [Seat(devices=())] * 2 + [None]
    assert room.num_threads == 4


def test_declared_devices_count_instead_of_visible_ones():
    room = seats("0", "1", devices=["3"])
    assert room.take(1) == Seat(devices=("3",))
    assert room.take(1) is None


def test_no_job_begins_on_a_stopped_device():
    room = seats("0", "1")
    room.stop("0")
    assert room.take(1) == Seat(devices=("1",))
    assert not room.could_take(2)
    room.stop("1")
    assert not room.could_take(1)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"num_jobs": 0}, "hydra.launcher.num_jobs must be positive, got 0"),
        ({"on_failure": "go"}, "hydra.launcher.on_failure=go says nothing; type continue or stop"),
        ({"retry": ["lost"]}, "hydra.launcher.retry has 'lost', how no job ends; type some of "),
        ({"devices": ["0", "0"]}, "names one device twice; type hydra.launcher.jobs_per_device=2"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, problem):
    with pytest.raises(ValueError, match=r"hydra\.launcher") as refused:
        dataclasses.replace(GIVEN, **options).check()
    assert problem in str(refused.value)
