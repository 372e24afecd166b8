"""What Hydra finds of our sweeps: it takes launchers and sweepers from `hydra_plugins` alone.

Its search runs this module before it is known by name, so annotations are no strings here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from glm_experiments.sweeps.options import Options


class ForkingLauncher(Launcher):
    """Runs each job in a process of its own, which is forked from one that imported once."""

    def __init__(self, **options: Any) -> None:
        plain = OmegaConf.to_container(OmegaConf.create(options))
        self.options = Options(**plain)  # type: ignore[arg-type]
        self.sweep: Any = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        from glm_experiments.sweeps.launching import Sweep

        self.options.check()
        self.sweep = Sweep(
            self.options, hydra_context=hydra_context, task=task_function, config=config
        )

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        jobs: Sequence[JobReturn] = self.sweep.run(
            [list(overrides) for overrides in job_overrides], first=initial_job_idx
        )
        return jobs


class GridSweeper(BasicSweeper):
    """Hydra's own grid, of which all points are composed and checked before: composing each once
    more takes as long as many of them train."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        return


@dataclass(kw_only=True)
class LauncherSchema(Options):
    """The launcher's options by their types; `conf/hydra/launcher` has their values."""

    _target_: str = f"{__name__}.ForkingLauncher"


@dataclass
class SweeperSchema(BasicSweeperConf):
    """As Hydra's own grid is configured."""

    _target_: str = f"{__name__}.GridSweeper"


store = ConfigStore.instance()
store.store(group="schema/launcher", name="forking", node=LauncherSchema)
store.store(group="hydra/sweeper", name="grid", node=SweeperSchema)
