"""Which layers of a model go to which device: a pure plan over sizes and free memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from glm_experiments.tables import render_table

GIB = 2**30
LABELLED_SHARE = 0.5
"""Of the tokens, on average; the head works on labelled ones alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """What one part of a model takes, in bytes.

    weights: parameters; training: gradients and optimizer state; activations: kept by one micro
    batch for the backward pass; buffers: while it computes, once.
    """

    weights: int
    training: int = 0
    activations: int = 0
    buffers: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSizes:
    """The parts of a model; a tied head has no weights of its own and stays at the embedding."""

    embedding: Part
    layers: tuple[Part, ...]
    head: Part
    is_tied: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """What one entry of `parallelism.devices` gets: layers `first` to `last`, both included, and
    what is `beside` them (embedding, head)."""

    device: str
    first: int
    last: int
    weight_bytes: int
    peak_bytes: int
    free_bytes: int
    beside: tuple[str, ...]


def plan_stages(
    sizes: ModelSizes,
    *,
    devices: Sequence[str],
    free_bytes: Mapping[str, int],
    num_micro_batches: int,
) -> tuple[Stage, ...]:
    """Split the layers so that the slowest stage is as fast as can be and each fits its memory.

    A layer's time goes by its weights, and so does the labelled share of the head's. A device that
    is named several times shares its free memory among its stages.

    Raises:
        ValueError: for more devices than layers.
        RuntimeError: where no split fits, with what the best one would need.
    """
    num_layers, num_stages = len(sizes.layers), len(devices)
    if num_stages > num_layers:
        raise ValueError(
            f"parallelism.devices has {num_stages} devices, but the model has {num_layers} layers; "
            f"type at most {num_layers} of them"
        )
    stages = find_split(
        sizes,
        devices=devices,
        free_bytes=free_bytes,
        num_micro_batches=num_micro_batches,
        must_fit=True,
    )
    if stages:
        return stages
    stages = find_split(
        sizes,
        devices=devices,
        free_bytes=free_bytes,
        num_micro_batches=num_micro_batches,
        must_fit=False,
    )
    raise RuntimeError(
        "the model does not fit the free memory of parallelism.devices, however its layers are "
        f"split:\n{render_stages(stages, num_micro_batches=num_micro_batches)}\n"
        "type more devices, fewer parallelism.num_micro_batches, a smaller "
        "training.micro_batch_size or data.context_length, or training.activation_checkpointing="
        "true"
    )


def find_split(
    sizes: ModelSizes,
    *,
    devices: Sequence[str],
    free_bytes: Mapping[str, int],
    num_micro_batches: int,
    must_fit: bool,
) -> tuple[Stage, ...]:
    """The split with the least (time, share of memory) of its worst stage; empty: none fits."""
    num_layers, num_stages = len(sizes.layers), len(devices)
    shared_by = Counter(devices)
    # best[end]: of the layers before `end` on the stages so far.
    best: dict[int, tuple[tuple[float, float], tuple[Stage, ...]]] = {0: ((0.0, 0.0), ())}
    for index, device in enumerate(devices):
        found: dict[int, tuple[tuple[float, float], tuple[Stage, ...]]] = {}
        ends = [num_layers] if index == num_stages - 1 else range(index + 1, num_layers)
        for end in ends:
            for begin in [begin for begin in best if begin < end]:
                parts = list(sizes.layers[begin:end])
                seconds = float(sum(part.weights for part in parts))
                beside = []
                if index == (0 if sizes.is_tied else num_stages - 1):
                    parts.append(sizes.head)
                    beside.append("head")
                    seconds += LABELLED_SHARE * (
                        sizes.embedding.weights if sizes.is_tied else sizes.head.weights
                    )
                if index == 0:
                    parts.append(sizes.embedding)
                    beside.insert(0, "embedding")
                stage = Stage(
                    device=device,
                    first=begin,
                    last=end - 1,
                    weight_bytes=sum(part.weights for part in parts),
                    peak_bytes=sum(
                        part.weights + part.training + num_micro_batches * part.activations
                        for part in parts
                    )
                    + max(part.buffers for part in parts),
                    free_bytes=free_bytes[device] // shared_by[device],
                    beside=tuple(beside),
                )
                if must_fit and stage.peak_bytes > stage.free_bytes:
                    continue
                worst, before = best[begin]
                share = stage.peak_bytes / max(stage.free_bytes, 1)
                rank = max(worst[0], seconds), max(worst[1], share)
                if end not in found or rank < found[end][0]:
                    found[end] = rank, (*before, stage)
        best = found
    return best[num_layers][1] if num_layers in best else ()


def expected_utilisation(num_stages: int, num_micro_batches: int) -> float:
    """Share of the time that a device computes, for equal stages (GPipe, arXiv:1811.06965)."""
    return num_micro_batches / (num_micro_batches + num_stages - 1)


def describe_stages(stages: Sequence[Stage], *, num_micro_batches: int) -> dict[str, Any]:
    """A plan for the run's record: bytes by device, and what each stage has."""
    peaks: Counter[str] = Counter()
    for stage in stages:
        peaks[stage.device] += stage.peak_bytes
    return {
        "stages": [asdict(stage) for stage in stages],
        "expected_peak_memory_bytes": dict(peaks),
        "expected_utilisation": expected_utilisation(len(stages), num_micro_batches),
    }


def render_stages(stages: Sequence[Stage], *, num_micro_batches: int) -> str:
    """A table of a plan, one line a stage."""
    rows = []
    for index, stage in enumerate(stages):
        sizes = (stage.weight_bytes, stage.peak_bytes, stage.free_bytes)
        layers = f"{stage.first}-{stage.last}"
        beside = f"with {' and '.join(stage.beside)}" if stage.beside else ""
        in_gib = [f"{size / GIB:.2f}" for size in sizes]
        rows.append([str(index), stage.device, layers, *in_gib, beside])
    table = render_table(
        rows,
        header=("stage", "device", "layers", "weights", "peak", "free", "(GiB, expected)"),
        align="<<<>>><",
    )
    busy = expected_utilisation(len(stages), num_micro_batches)
    return f"{table}\n{num_micro_batches} micro batches in flight: devices at most {busy:.0%} busy"
