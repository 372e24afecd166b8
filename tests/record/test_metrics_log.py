"""The metrics of a run, as its folder keeps them."""

from __future__ import annotations

import json
import math
from pathlib import Path

from glm_experiments.record.metrics_log import MetricsLog


def test_metrics_are_on_disk_line_by_line_and_go_on(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    log = MetricsLog(file)
    log.log(1, {"train/loss": 2.0})
    log.log(2, {"train/loss": math.nan})
    assert file.read_text() == '{"step": 1, "train/loss": 2.0}\n{"step": 2, "train/loss": null}\n'
    with file.open("a") as stream:
        stream.write('{"step": 3, "tra')
    MetricsLog(file).log(3, {"train/loss": 1.0})
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert lines[2]["train/loss"] == 1.0
