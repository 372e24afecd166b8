"""Tracked runs: what each tracker is told, and that none of them can end or delay a run."""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
import os
import pkgutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from glm_experiments.config import (
    DisabledConfig,
    TensorboardConfig,
    TrackingMode,
    WandbConfig,
)
from glm_experiments.record.errors import Diverged
from glm_experiments.tracking import (
    RunDescription,
    TrackedRun,
    check_tracker,
    describe_swept_keys,
    open_tracked_run,
    run_id_for,
)
from glm_experiments.tracking.faults import faults_of
from glm_experiments.tracking.wandb_tracker import read_wandb_mode

from ..running import UNMEASURED, read_losses, read_record
from ..waiting import HANG_SECONDS
from .wandb_server import WandbServer

REPOSITORY = Path(__file__).resolve().parents[2]
SECRET = "hf_should_never_be_written"
KEY = "0123456789" * 4


def describe(folder: Path, name: str = "r=8") -> RunDescription:
    return RunDescription(
        name=name,
        folder=folder,
        group="ranks",
        job_type="lora",
        tags=["tiny_glm", "single", "identity"],
        config={"tuner": {"r": 8}, "training": {"extra": {"hub_token": SECRET}}},
    )


def wandb_config(**changes: Any) -> WandbConfig:
    values: dict[str, Any] = {
        "name": "wandb",
        "project": "study",
        "entity": None,
        "group": None,
        "tags": ["mine"],
        "mode": None,
        "log_adapter": False,
        "init_timeout_seconds": 2,
        "finish_timeout_seconds": 2,
    }
    return WandbConfig(**{**values, **changes})


def tell(run: TrackedRun) -> None:
    for step in (1, 2, 1):  # a resumed run may go back
        run.log(step, {"train/loss": 4.0 - step})
    run.summarise({"metrics": {"after": {"identity": {"exact_match": 99.0}}}})


def read_wandb(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Records of the single offline run in `folder`, by type."""
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(file)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    records: dict[str, list[dict[str, Any]]] = {}
    for line in shown.splitlines():
        record = json.loads(line)
        records.setdefault(record["type"], []).append(record[record["type"]])
    return records


def test_the_name_of_a_job_tells_the_swept_keys() -> None:
    config = {
        "tuner": {"name": "lora", "r": 8},
        "training": {"learning_rate": 1e-4, "max_steps": 3},
        "model": {"name": "tiny_glm", "path": "a"},
        "data": {"path": "b", "tags": ["x", "y"]},
    }
    assert describe_swept_keys(config, []) == ""
    assert describe_swept_keys(config, ["tuner.r", "training.learning_rate"]) == (
        "r=8 learning_rate=0.0001"
    )
    assert describe_swept_keys(config, ["tuner", "experiment"]) == "tuner=lora"
    assert describe_swept_keys(config, ["model.path", "data.path"]) == "model.path=a data.path=b"
    config["data"]["path"] = "c" * 300
    assert len(describe_swept_keys(config, ["data.path"])) == 128


def test_a_run_keeps_its_id_in_its_folder(tmp_path: Path) -> None:
    first = run_id_for(tmp_path / "new" / "a")
    assert run_id_for(tmp_path / "new" / "a") == first
    assert run_id_for(tmp_path / "b") != first
    assert len(first) == 12


def test_a_missing_package_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    config = wandb_config()
    check_tracker(config)
    check_tracker(DisabledConfig(name="disabled"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    check_tracker(DisabledConfig(name="disabled"))
    with pytest.raises(RuntimeError, match="type pip install wandb, or tracking=disabled"):
        check_tracker(config)


def test_wandb_mode_is_checked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(ValueError, match="WANDB_MODE=ofline is no mode; type online, offline"):
        check_tracker(wandb_config())
    monkeypatch.setenv("WANDB_MODE", "dryrun")
    assert read_wandb_mode() == "offline"
    monkeypatch.delenv("WANDB_MODE")
    assert read_wandb_mode() is None


def test_disabled_tells_nobody(tmp_path: Path) -> None:
    with open_tracked_run(DisabledConfig(name="disabled"), describe(tmp_path)) as run:
        tell(run)
        run.log_adapter(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_tracker_that_fails_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    class Failing:
        def log(self, step: int, values: Mapping[str, float]) -> None:
            raise ConnectionResetError("Connection\n lost")

        summarise = log_adapter = finish = log

    run = TrackedRun(Failing(), faults=faults_of(None))  # type: ignore[arg-type]
    with run:
        tell(run)
    assert caplog.messages == [
        "tracking ends here (ConnectionResetError: Connection lost); the run goes on, "
        "and its folder has everything"
    ]


def remove_from_wandb(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """As if a release of wandb had renamed it."""
    owner, _, attribute = name.rpartition(".")
    monkeypatch.delattr(pkgutil.resolve_name(owner), attribute)


def our_messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Without wandb's own, which depend on what was tracked before in this process."""
    ours = [each for each in caplog.records if each.name.startswith("glm_experiments")]
    return [each.getMessage() for each in ours if each.levelno >= logging.INFO]


@pytest.mark.parametrize("name", ["wandb.Settings", "wandb.sdk.wandb_run.Run.define_metric"])
def test_a_wandb_that_renamed_something_is_left_out(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    remove_from_wandb(monkeypatch, name)
    with open_tracked_run(wandb_config(), describe(tmp_path)) as run:
        tell(run)
    *_, message = our_messages(caplog)
    assert message.startswith("tracking=wandb can't start and is left out: AttributeError: ")


def test_a_wandb_that_renamed_something_is_told_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    with open_tracked_run(wandb_config(), describe(tmp_path)) as run:
        remove_from_wandb(monkeypatch, "wandb.sdk.wandb_run.Run.finish")
        tell(run)
    *_, message = our_messages(caplog)
    assert message.startswith("tracking ends here (AttributeError: ")


@pytest.mark.parametrize("kind", ["MailboxClosedError", "HandleAbandonedError"])
def test_an_error_that_only_wandb_knows_ends_the_tracking_and_not_the_run(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    error = pkgutil.resolve_name(f"wandb.sdk.mailbox.{kind}")

    class Failing:
        def log(self, step: int, values: Mapping[str, float]) -> None:
            raise error("the service is gone")

        summarise = log_adapter = finish = log

    with TrackedRun(Failing(), faults=faults_of("wandb")) as run:  # type: ignore[arg-type]
        tell(run)
    assert caplog.messages == [
        f"tracking ends here ({kind}: the service is gone); the run goes on, "
        "and its folder has everything"
    ]
    with (
        pytest.raises(error),
        TrackedRun(Failing(), faults=faults_of("tensorboard")) as run,  # type: ignore[arg-type]
    ):
        tell(run)


def test_a_run_outlives_a_wandb_that_renamed_something(
    typed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    remove_from_wandb(monkeypatch, "wandb.sdk.wandb_run.Run.log")
    # Of its insides nothing may be leant on.
    for name in ("MailboxClosedError", "HandleAbandonedError"):
        remove_from_wandb(monkeypatch, f"wandb.sdk.mailbox.{name}")
    done = typed.train(tmp_path, "tracking=wandb", *UNMEASURED)
    assert done.code == 0
    assert "tracking ends here (AttributeError: 'Run' object has no" in done.out + done.err
    record = read_record(tmp_path)
    assert record["run"]["status"] == "finished"
    assert record["outcome"]["steps"] == 2
    assert len(read_losses(tmp_path)) == 2


def test_wandb_offline_has_everything_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    caplog.set_level(logging.INFO, logger="glm_experiments")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter.safetensors").write_text("weights")
    config = wandb_config(log_adapter=True)
    with open_tracked_run(config, describe(tmp_path / "0")) as run:
        tell(run)
        run.log_adapter(adapter)
    with (
        pytest.raises(Diverged),
        open_tracked_run(config, describe(tmp_path / "1", name="r=16")) as run,
    ):
        raise Diverged("the loss is nan at step 3")

    first, second = read_wandb(tmp_path / "0"), read_wandb(tmp_path / "1")
    (about,) = first["run"]
    assert about["project"] == "study"
    assert about["display_name"] == "r=8"
    assert about["run_group"] == "ranks"
    assert about["job_type"] == "lora"
    assert about["tags"] == ["tiny_glm", "single", "identity", "mine"]
    assert about["run_id"] == run_id_for(tmp_path / "0")
    assert about["config"]["update"]["tuner"] == {"r": 8}
    rows = [(row["item"]["step"], row["item"]["train/loss"]) for row in first["history"]]
    assert rows == [(1, 3), (2, 2), (1, 3)]
    assert {"name": "step", "options": {"defined": True, "hidden": True}} in first["metric"]
    assert "step" in {metric.get("step_metric") for metric in first["metric"]}
    told: dict[str, Any] = {}
    for update in first["summary"]:
        told |= update["update"]
    assert told["metrics/after/identity/exact_match"] == 99
    assert told["status"] == "finished"
    assert [each["exit_code"] for each in first["exit"]] == [0]
    (artifact,) = first["artifact"]
    assert artifact["name"] == f"adapter-{about['run_id']}"

    assert second["run"][0]["display_name"] == "r=16"
    assert second["run"][0]["run_id"] != about["run_id"]
    assert second["exit"] == [{"exit_code": 1}]
    assert {"status": "diverged"} in [update["update"] for update in second["summary"]]
    assert "history" not in second
    messages = our_messages(caplog)
    assert len(messages) == 2
    (folder,) = (tmp_path / "0" / "wandb").iterdir()
    assert messages[0] == (
        f"wandb is offline (offline was asked for); to upload type: wandb sync {folder}"
    )
    assert_secret_is_nowhere(tmp_path)


def assert_secret_is_nowhere(folder: Path) -> None:
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert files
    for file in files:
        content = file.read_bytes()
        assert SECRET.encode() not in content, file
        assert KEY.encode() not in content, file


def test_wandb_is_told_how_long_to_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    asked = []
    init = wandb.init

    def watch(**given: Any) -> Any:
        asked.append((given["settings"].init_timeout, given["settings"].finish_timeout))
        return init(**given)

    monkeypatch.setattr(wandb, "init", watch)
    seconds = {"init_timeout_seconds": 7, "finish_timeout_seconds": 9}
    config = wandb_config(mode=TrackingMode.offline, **seconds)
    with open_tracked_run(config, describe(tmp_path)) as run:
        tell(run)
    assert asked == [(7, 9)]


def test_wandb_keeps_the_smallest_loss_of_every_set(tmp_path: Path) -> None:
    losses = {"identity": (3.0, 1.0, 2.0), "general": (0.1, 0.2, 0.3)}
    with open_tracked_run(wandb_config(mode="offline"), describe(tmp_path)) as run:
        for step in range(3):
            run.log(step, {f"validation/{name}/loss": each[step] for name, each in losses.items()})
        run.summarise({"validation": {name: {"loss": each[-1]} for name, each in losses.items()}})
    told: dict[str, Any] = {}
    for update in read_wandb(tmp_path)["summary"]:
        told |= update.get("update", {})
    assert told["validation/identity/loss"] == {"min": 1.0, "last": 2.0}
    assert told["validation/general/loss"] == {"min": 0.1, "last": 0.3}


def test_wandb_disabled_tells_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with open_tracked_run(wandb_config(), describe(tmp_path)) as run:
        tell(run)
    assert list(tmp_path.iterdir()) == []


# The rest of wandb runs in processes of its own: it reads its environment once a process.
SCRIPT = """
import logging, sys, time
from pathlib import Path
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
from tests.tracking.test_tracked_run import describe, tell, wandb_config
from glm_experiments.tracking import open_tracked_run
for name in sys.argv[2:]:
    with open_tracked_run(wandb_config(), describe(Path(sys.argv[1]) / name)) as run:
        tell(run)
"""


@dataclass(frozen=True, slots=True)
class Job:
    server: WandbServer | None
    folder: Path
    stdout: str
    log: str


SERVERS: dict[str, Callable[[], WandbServer | None]] = {
    "works": WandbServer,
    "broken": functools.partial(WandbServer, is_broken=True),
    "breaks": functools.partial(WandbServer, breaks_on_run=True),
    "no key": lambda: None,
    "bad key": lambda: None,
}
KEYS: dict[str, dict[str, str]] = {"no key": {}, "bad key": {"WANDB_API_KEY": "short"}}
NAMES = {"works": ["a", "a", "b"]}


@pytest.fixture
def job(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Job]:
    """Runs with the server that the test names."""
    case, folder = request.param, tmp_path / "runs"
    cleared = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    env = {
        **cleared,
        "HOME": str(tmp_path),
        "NETRC": str(tmp_path / "netrc"),
        "WANDB_ERROR_REPORTING": "false",
        **KEYS.get(case, {"WANDB_API_KEY": KEY}),
    }
    server = SERVERS[case]()
    if server is not None:
        env["WANDB_BASE_URL"] = server.url
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), *NAMES.get(case, ["a"])],
        env=env,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    yield Job(server, folder, done.stdout, done.stderr)
    if server is not None:
        server.shutdown()
        server.server_close()


def with_server(case: str) -> pytest.MarkDecorator:
    """Gives a test the `job` of this case."""
    return pytest.mark.parametrize("job", [case], indirect=True)


@with_server("works")
def test_wandb_online_takes_each_run_and_continues_one(job: Job) -> None:
    server = job.server
    assert server is not None
    first, second = run_id_for(job.folder / "a"), run_id_for(job.folder / "b")
    assert set(server.runs) == {first, second}
    about = server.runs[first]
    assert (about["displayName"], about["groupName"], about["jobType"]) == ("r=8", "ranks", "lora")
    assert about["tags"] == ["tiny_glm", "single", "identity", "mine"]
    assert json.loads(about["config"])["tuner"]["value"] == {"r": 8}
    assert [row["step"] for row in server.history[second]] == [1, 2, 1]
    assert len(server.history[first]) == 6
    assert server.summary[second]["metrics/after/identity/exact_match"] == 99
    assert server.exit_codes == {first: [0, 0], second: [0]}
    assert server.operations.count("RunResumeStatus") == 3
    tracked = [line for line in job.log.splitlines() if line.startswith("INFO tracked at")]
    assert tracked[0] == f"INFO tracked at {server.url}/me/study/runs/{first}"
    assert len(tracked) == len(job.log.splitlines()) == 3
    assert job.stdout == ""
    assert SECRET.encode() not in b"".join(server.received)
    assert_secret_is_nowhere(job.folder)


@pytest.mark.slow
@with_server("broken")
def test_wandb_with_a_broken_server_goes_offline(job: Job) -> None:
    assert len(job.log.splitlines()) == 1
    assert job.log.startswith("WARNING wandb is offline (the server can't be used: CommError:")
    (folder,) = (job.folder / "a" / "wandb").glob("offline-run-*")
    assert job.log.strip().endswith(f"to upload type: wandb sync {folder}")
    assert [row["item"]["step"] for row in read_wandb(job.folder / "a")["history"]] == [1, 2, 1]
    assert_secret_is_nowhere(job.folder)


@pytest.mark.slow
@with_server("breaks")
def test_wandb_whose_server_breaks_finishes(job: Job) -> None:
    (folder,) = (job.folder / "a" / "wandb").glob("run-*")
    last = job.log.strip().splitlines()[-1]
    assert last == f"WARNING wandb didn't get everything in time; type: wandb sync {folder}"


@with_server("no key")
def test_wandb_without_a_key_is_offline_and_says_so(job: Job) -> None:
    (folder,) = (job.folder / "a" / "wandb").glob("offline-run-*")
    assert job.log == (
        "INFO wandb is offline (no API key is set, see wandb login); "
        f"to upload type: wandb sync {folder}\n"
    )
    assert job.stdout == ""


@pytest.mark.slow
@with_server("bad key")
def test_wandb_with_a_bad_key_is_offline_and_says_so(job: Job) -> None:
    assert "WANDB_API_KEY invalid" in job.log
    assert list((job.folder / "a" / "wandb").glob("offline-run-*"))


def test_the_configs_mode_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    config = wandb_config(mode=TrackingMode.offline)
    with open_tracked_run(config, describe(tmp_path)) as run:
        tell(run)
    assert len(read_wandb(tmp_path)["history"]) == 3


def test_tensorboard_has_the_curve_and_the_texts(tmp_path: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with open_tracked_run(TensorboardConfig(name="tensorboard"), describe(tmp_path)) as run:
        tell(run)
    events = accumulators.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(1, 3), (2, 2), (1, 3)]
    texts = {
        tag: events.Tensors(tag)[0].tensor_proto.string_val[0].decode()
        for tag in ("config/text_summary", "summary/text_summary")
    }
    assert '"r": 8' in texts["config/text_summary"]
    assert '"metrics/after/identity/exact_match": 99.0' in texts["summary/text_summary"]
    assert_secret_is_nowhere(tmp_path)


def test_tensorboard_compares_runs_by_settings_and_results(tmp_path: Path) -> None:
    """Before and after as figures, and the table of hyperparameters."""
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from tensorboard.plugins.hparams import plugin_data_pb2

    with open_tracked_run(TensorboardConfig(name="tensorboard"), describe(tmp_path)) as run:
        run.log(7, {"train/loss": 1.0})
        figures = {"before": {"sums": {"loss": 3.5}}, "after": {"sums": {"loss": 0.5}}}
        run.summarise({"metrics": figures, "steps": 7})
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1
    events = accumulators.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    for when, point in {"before": (0, 3.5), "after": (7, 0.5)}.items():
        assert [(e.step, e.value) for e in events.Scalars(f"metrics/{when}/sums/loss")] == [point]
    table = {
        tag: plugin_data_pb2.HParamsPluginData.FromString(content)
        for tag, content in events.PluginTagToContent("hparams").items()
    }
    settings = table["_hparams_/session_start_info"].session_start_info.hparams
    assert settings["tuner.r"].number_value == 8
    (metric,) = table["_hparams_/experiment"].experiment.metric_infos
    assert metric.name.tag == "metrics/after/sums/loss"
    assert_secret_is_nowhere(tmp_path)


def test_trackio_keeps_runs_apart_and_continues_one(tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    script = """
import sys
from pathlib import Path
from tests.tracking.test_tracked_run import describe, tell
from glm_experiments.config import TrackioConfig
from glm_experiments.tracking import open_tracked_run
for name in ("a", "a", "b"):
    config = TrackioConfig(name="trackio", project="study", group=None)
    with open_tracked_run(config, describe(Path(sys.argv[1]) / name)) as run:
        tell(run)
"""
    env = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio")}
    command = [sys.executable, "-c", script, str(tmp_path)]
    shown = subprocess.run(
        command, env=env, cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert shown.stdout == ""
    with sqlite3.connect(tmp_path / "trackio" / "study.db") as database:
        rows = database.execute(
            "select run_name, step, cast(metrics as text) from metrics"
        ).fetchall()
    names = {name: f"r=8 {run_id_for(tmp_path / name)}" for name in ("a", "b")}
    assert {row[0] for row in rows} == set(names.values())
    steps = {
        name: [row[1] for row in rows if row[0] == names[name] and "train/loss" in row[2]]
        for name in names
    }
    assert steps == {"a": [1, 2, 1, 1, 2, 1], "b": [1, 2, 1]}
    assert '{"summary/status":"finished"}' in {row[2] for row in rows}
    assert_secret_is_nowhere(tmp_path)
