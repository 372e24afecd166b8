"""glm-export: a run's model as a folder of its own, for use without this package where possible."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from safetensors import SafetensorError

from glm_experiments import runs
from glm_experiments.commands.command_line import build_parser, read_config, run_command
from glm_experiments.config import Config
from glm_experiments.record.files import EXPORT_DESCRIPTION
from glm_experiments.record.signals import STOPPING, deferred
from glm_experiments.record.writing import write_json


def export_run(arguments: argparse.Namespace, config: Config) -> None:
    """Merge what was trained into the base, or fold a prefix, and write it whole or not at all."""
    target: Path = arguments.to
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"--to {target} exists and is not empty; give a new folder")
    runs.find_adapter(arguments.run_dir, arguments.checkpoint)
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        deferred(*STOPPING) as signals,  # a hidden folder that is made is moved or deleted
        tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as temporary,
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


def write_export(run: runs.LoadedRun, folder: Path) -> str:
    """Write the exported folder; returns what it holds, in words."""
    from glm_experiments.tuners import can_merge, fold_adapter, merge_adapter, save_adapter

    config = run.parts.config
    if not can_merge(run.model):
        # What has no place in the base's weights stays an adapter, in its smallest form.
        model = fold_adapter(run.model)
        save_adapter(model, folder, prompt_format=config.data.prompt_format, base=config.model.path)
        run.parts.tokenizer.save_pretrained(folder)
        return f"adapter for {config.model.path} (glm_experiments.tuners.load_adapter)"
    model = merge_adapter(run.model)
    model.save_pretrained(folder)
    run.parts.tokenizer.save_pretrained(folder)
    write_json(
        folder / EXPORT_DESCRIPTION,
        {"prompt_format": config.data.prompt_format, "base": config.model.path},
    )
    # safetensors 0.8 lets only the owner read its files; who may read the config may read them.
    for file in folder.glob("*.safetensors"):
        file.chmod((folder / "config.json").stat().st_mode)
    return f"{type(model).__name__} in {config.model.dtype} (from_pretrained)"


def main() -> None:
    """Console entry point."""
    parser = build_parser(
        "glm-export", "Write a run's model as a folder that from_pretrained loads"
    )
    parser.add_argument("--to", required=True, metavar="DIR", type=Path, help="a new folder")
    run_command(parser, export_run, prepare=read_config)


if __name__ == "__main__":
    main()
