"""glm-export: a run's model as a folder of its own, for use without this package where possible."""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError

from glm_experiments import runs
from glm_experiments.commands.command_line import build_parser, read_config, run_command
from glm_experiments.config import Config
from glm_experiments.record.errors import RunFailed
from glm_experiments.record.files import EXPORT_DESCRIPTION, LOCK
from glm_experiments.record.run import lock_folder
from glm_experiments.record.signals import STOPPING, deferred
from glm_experiments.record.writing import write_json


def export_run(arguments: argparse.Namespace, config: Config) -> None:
    """Merge what was trained into the base, or fold a prefix, and write it whole or not at all."""
    target: Path = arguments.to
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"--to {target} exists and is not empty; give a new folder")
    runs.find_adapter(arguments.run_dir, arguments.checkpoint)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_left(target)
    with (
        deferred(*STOPPING) as signals,  # a hidden folder that is made is moved or deleted
        tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as temporary,
        lock_folder(Path(temporary)),  # says that somebody is at work in it
    ):
        folder = Path(temporary) / target.name
        try:
            with signals.allowed():
                run = runs.load_run(
                    arguments.run_dir, config=config, checkpoint=arguments.checkpoint
                )
                what = write_export(run, folder)
        except SafetensorError as error:  # a full disk, which is no OSError there
            raise RuntimeError(f"--to {target} can't be written: {error}") from error
        if target.exists():
            target.rmdir()
        shutil.move(folder, target)
    print(f"{what}: {target}")


def remove_left(target: Path) -> None:
    """Delete what exports to `target` that were killed have left beside it."""
    name = re.compile(rf"\.{re.escape(target.name)}-[a-z0-9_]{{8}}")  # as tempfile spells them
    for path in target.parent.iterdir():
        if name.fullmatch(path.name) and (path / LOCK).is_file():
            with suppress(RunFailed, OSError), lock_folder(path):  # else it is being written
                shutil.rmtree(path)


def write_export(run: runs.LoadedRun, folder: Path) -> str:
    """Write the exported folder; returns what it holds, in words."""
    from glm_experiments.models.exporting import write_model
    from glm_experiments.tuners import can_merge, fold_adapter, merge_adapter, save_adapter

    config = run.parts.config
    if not can_merge(run.model):
        # What has no place in the base's weights stays an adapter, in its smallest form.
        model = fold_adapter(run.model)
        save_adapter(model, folder, prompt_format=config.data.prompt_format, base=config.model.path)
        run.parts.tokenizer.save_pretrained(folder)
        return f"adapter for {config.model.path} (glm_experiments.tuners.load_adapter)"
    model = merge_adapter(run.model)
    how = write_model(model, run.parts.tokenizer, folder)
    write_json(
        folder / EXPORT_DESCRIPTION,
        {"prompt_format": config.data.prompt_format, "base": config.model.path},
    )
    return f"{type(model).__name__} in {config.model.dtype} ({how})"


def main() -> None:
    """Console entry point."""
    parser = build_parser(
        "glm-export", "Write a run's model as a folder that from_pretrained loads"
    )
    parser.add_argument("--to", required=True, metavar="DIR", type=Path, help="a new folder")
    run_command(parser, export_run, prepare=read_config)


if __name__ == "__main__":
    main()
