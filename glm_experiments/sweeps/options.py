"""What a user may choose of how a sweep's jobs are run. Values stand in `conf/hydra/launcher`."""

from __future__ import annotations

from dataclasses import dataclass

from glm_experiments.config import check, join_problems, positive

CONTINUE, STOP = "continue", "stop"
RETRIED = ("interrupted", "killed", "timed_out", "failed", "out_of_memory", "diverged")
"""The statuses of jobs that could be run again."""

SECTION = "hydra.launcher"


@dataclass(kw_only=True, slots=True)
class Options:
    """How the jobs of a sweep are run."""

    num_jobs: int | None
    """Jobs at once; null: as many as the devices take, on the CPU one."""
    jobs_per_device: int
    """Jobs of one device that share it at once."""
    devices: list[str] | None
    """As in CUDA_VISIBLE_DEVICES; null: all that are visible."""
    on_failure: str
    """continue: with the other jobs; stop: begin no further one."""
    retry: list[str]
    """How a job must have ended that the same command runs again."""
    timeout: float | None
    """Seconds that a job may take, after which it is ended; null: no limit."""
    heartbeat_timeout: float
    """Seconds in which a job must be seen to go on: loading and compiling show nothing."""

    def check(self) -> None:
        """See that all of it makes sense.

        Raises:
            ValueError: with every problem, one a line.
        """
        problems = positive(
            SECTION,
            {
                "num_jobs": self.num_jobs,
                "jobs_per_device": self.jobs_per_device,
                "timeout": self.timeout,
                "heartbeat_timeout": self.heartbeat_timeout,
            },
        )
        check(
            problems,
            self.on_failure in (CONTINUE, STOP),
            f"{SECTION}.on_failure={self.on_failure} says nothing; type {CONTINUE} or {STOP}",
        )
        check(
            problems,
            self.devices is None or len(set(self.devices)) == len(self.devices),
            f"{SECTION}.devices names one device twice; type {SECTION}.jobs_per_device=2",
        )
        for status in self.retry:
            check(
                problems,
                status in RETRIED,
                f"{SECTION}.retry has {status!r}, how no job ends; type some of "
                f"[{','.join(RETRIED)}]",
            )
        if problems:
            raise ValueError(join_problems(problems))
