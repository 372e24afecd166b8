"""The README beside a trained adapter: a model card, as the hub and its users expect one.

Decides its words; knows neither models nor tuners, only what a run's record says.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glm_experiments.record.writing import write_text

NAME = "README.md"
PEFT = "adapter_config.json"
"""A folder with this file is one of peft's, too."""


def write_model_card(
    folder: Path,
    *,
    config: Mapping[str, Any],
    outcome: Mapping[str, Any],
    environment: Mapping[str, Any],
) -> None:
    """Write the card of the adapter in `folder`.

    config: the run's, nested, without secrets; outcome, environment: its record's.
    """
    is_peft = (folder / PEFT).is_file()
    parts = [
        *(describe_for_hub(config, is_peft=is_peft), f"# {config['name']}"),
        f"What `glm-train` (glm_experiments) trained of `{config['model']['path']}`.",
        render_facts(config, outcome, environment),
        *(["## Metrics", table] if (table := render_metrics(outcome)) else []),
        *("## Use", render_use(config, is_peft=is_peft)),
    ]
    write_text(folder / NAME, "\n\n".join(parts) + "\n")


def describe_for_hub(config: Mapping[str, Any], *, is_peft: bool) -> str:
    """The front matter that the hub reads; it takes a base only by the hub's own ids."""
    path = str(config["model"]["path"])
    is_hub_id = path.count("/") == 1 and not Path(path).exists() and path[0] not in "./~"
    return "\n".join(
        [
            "---",
            f"library_name: {'peft' if is_peft else 'glm_experiments'}",
            *([f"base_model: {path}"] if is_hub_id else []),
            "pipeline_tag: text-generation",
            "tags:",
            *(f"- {tag}" for tag in ("glm", config["tuner"]["name"])),
            "---",
        ]
    )


def render_facts(
    config: Mapping[str, Any], outcome: Mapping[str, Any], environment: Mapping[str, Any]
) -> str:
    """Base, tuner, data and training, a line each; what was left open as it turned out."""
    model, tuner = environment["model"], config["tuner"]
    data, training = config["data"], config["training"]
    at_revision = f", revision `{model['revision']}`" if model["revision"] else ""
    is_new = "random weights in the place of " if config["model"]["weights"] == "random" else ""
    settings = ", ".join(
        f"{key}={render_value(value)}"
        for key, value in tuner.items()
        if key not in ("name", "kind")
    )
    facts = {
        "base": f"{is_new}`{model['path']}`{at_revision}, in {model['dtype']}",
        "tuner": f"`{tuner['name']}`: {settings}",
        "data": f"`{data['name']}`, fingerprint `{environment['data']['fingerprint']}`, "
        f"prompt format `{data['prompt_format']}`, context length {data['context_length']}",
        "training": f"{outcome.get('steps')} steps of {training['batch_size']} samples, "
        f"learning rate {training['learning_rate']}, seed {config['seed']}",
    }
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def render_value(value: Any) -> str:
    """A setting's value, on one line."""
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def render_metrics(outcome: Mapping[str, Any]) -> str | None:
    """Every set's metrics before and after as a table; None: none were measured."""
    measured: Mapping[str, Any] = outcome.get("metrics", {})
    before, after = (measured.get(when, {}) for when in ("before", "after"))
    rows = [
        (name, metric, *(render_figure(each.get(name, {}).get(metric)) for each in (before, after)))
        for name in {**before, **after}
        for metric, value in {**before.get(name, {}), **after.get(name, {})}.items()
        if isinstance(value, int | float)
    ]
    if not rows:
        return None
    header = ["| set | metric | before | after |", "| --- | --- | --- | --- |"]
    return "\n".join([*header, *(f"| {' | '.join(row)} |" for row in rows)])


def render_figure(value: float | None) -> str:
    """A figure as the log's table has it; empty: it wasn't measured."""
    return "" if value is None else f"{value:.2f}"


def render_use(config: Mapping[str, Any], *, is_peft: bool) -> str:
    """Code that loads base and adapter, FOLDER being this one."""
    path = config["model"]["path"]
    lines = [
        "```python",
        "from glm_experiments.models import load_model, load_tokenizer",
        "from glm_experiments.tuners import load_adapter",
        "",
        f'model = load_adapter(load_model("{path}"), "FOLDER")',
        f'tokenizer = load_tokenizer("{path}")',
        "```",
    ]
    if is_peft:
        lines += [
            "",
            "With peft alone; `import glm_experiments` before where the base is a ChatGLM as "
            "published, or of version 1:",
            "",
            "```python",
            "from peft import AutoPeftModelForCausalLM",
            "",
            'model = AutoPeftModelForCausalLM.from_pretrained("FOLDER")',
            "```",
        ]
    return "\n".join(lines)
