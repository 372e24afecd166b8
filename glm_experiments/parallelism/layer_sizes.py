"""What the parts of a model take in training, found out on `meta`: no weight is read for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from glm_experiments.models.architectures.layer_list import find_layers
from glm_experiments.models.architectures.loss import PIECE_LENGTH
from glm_experiments.parallelism.layer_plan import LABELLED_SHARE, ModelSizes, Part

NUM_OPTIMIZER_STATES = 2  # of Adam
EMBEDDING = -1
MEMORY_FILE = Path("/proc/meminfo")


def measure_sizes(
    model: PreTrainedModel,
    *,
    dtype: torch.dtype,
    num_rows: int,
    length: int,
    activation_checkpointing: bool,
) -> ModelSizes:
    """The parts of a tuned model on `meta`, for micro batches of (num_rows, length).

    dtype: of the arithmetic. The model is cast to it and is of no further use.
    """
    num_layers = len(find_layers(model))
    embedding, head = model.get_input_embeddings(), model.get_submodule("lm_head")
    assert isinstance(embedding, nn.Module)
    in_head = {id(each) for each in head.parameters()} - {
        id(each) for each in embedding.parameters()
    }
    weights: defaultdict[int, int] = defaultdict(int)
    training: defaultdict[int, int] = defaultdict(int)
    for name, parameter in model.named_parameters():
        part = num_layers if id(parameter) in in_head else find_part(name, model)
        weights[part] += parameter.nbytes
        if parameter.requires_grad:
            training[part] += parameter.nbytes * (1 + NUM_OPTIMIZER_STATES)
            if parameter.dtype is not dtype:  # what it is cast to stays until the backward pass
                training[part] += parameter.numel() * dtype.itemsize
    kept = trace_activations(model.to(dtype), num_rows=num_rows, length=length)  # type: ignore[arg-type]
    hidden = model.config.hidden_size * dtype.itemsize
    layers = []
    for index in range(num_layers):
        recomputed = kept[index] if activation_checkpointing else 0
        layers.append(
            Part(
                weights=weights[index],
                training=training[index],
                activations=num_rows * length * hidden if recomputed else kept[index],
                buffers=recomputed,
            )
        )
    # Labelled rows are worked on in pieces; of one piece the logits are kept, of several none.
    labels = int(num_rows * length * LABELLED_SHARE)
    num_pieces = max(labels // PIECE_LENGTH, 1)
    logits = labels // num_pieces * model.config.vocab_size
    return ModelSizes(
        embedding=Part(
            weights=weights[EMBEDDING], training=training[EMBEDDING], activations=kept[EMBEDDING]
        ),
        layers=tuple(layers),
        head=Part(
            weights=weights[num_layers],
            training=training[num_layers],
            activations=labels * hidden + (4 * logits if num_pieces == 1 else 0),
            buffers=logits * (dtype.itemsize + (8 if num_pieces == 1 else 12)),
        ),
        is_tied=not in_head,
    )


def find_part(name: str, model: PreTrainedModel) -> int:
    """The layer that a parameter of the base model belongs to; a last norm goes to the last one."""
    prefix = f"{model.base_model_prefix}.layers."
    if name.startswith(prefix):
        return int(name.removeprefix(prefix).partition(".")[0])
    norms = {
        id(each)
        for child in model.base_model.children()
        if "norm" in type(child).__name__.lower()
        for each in child.parameters()
    }
    is_norm = id(model.get_parameter(name)) in norms
    return len(find_layers(model)) - 1 if is_norm else EMBEDDING


def trace_activations(
    model: PreTrainedModel, *, num_rows: int, length: int
) -> defaultdict[int, int]:
    """Bytes that each layer of a model on `meta` keeps for its backward pass."""
    kept: defaultdict[int, int] = defaultdict(int)
    known = {each.untyped_storage()._cdata for each in (*model.parameters(), *model.buffers())}
    part = EMBEDDING

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            known.add(storage._cdata)
            kept[part] += storage.nbytes()
        return tensor

    def enter(index: int) -> Any:
        def hook(*_: Any) -> None:
            nonlocal part
            part = index

        return hook

    hooks = [
        layer.register_forward_pre_hook(enter(index))
        for index, layer in enumerate(find_layers(model))
    ]
    ids = torch.empty(num_rows, length, dtype=torch.int64, device="meta")
    model.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), FusedOnMeta():
        output = model.base_model(input_ids=ids, use_cache=False)
    del output
    for each in hooks:
        each.remove()
    return kept


class FusedOnMeta(TorchFunctionMode):
    """Attention keeps what a fused kernel keeps; a question about numbers is answered with yes.

    On `meta` torch would compute attention in plain operations. The only such question of these
    models is whether rows hold one sequence each.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.Tensor.__bool__:
            return True
        if func is nn.functional.scaled_dot_product_attention:
            return FusedAttention.apply(*args[:3])  # type: ignore[no-untyped-call]
        return func(*args, **(kwargs or {}))


class FusedAttention(torch.autograd.Function):
    """Keeps its inputs and its output."""

    @staticmethod
    def forward(
        context: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        output = torch.empty_like(query)
        context.save_for_backward(query, key, value, output)
        return output


def measure_free_memory(devices: Iterable[str]) -> dict[str, int]:
    """Bytes by device that a model can still take."""
    free = {}
    for device in devices:
        if device.startswith("cuda"):
            unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            free[device] = torch.cuda.mem_get_info(device)[0] + unused
        else:
            free[device] = read_available_memory()
    return free


def read_available_memory() -> int:
    """Bytes of the host's memory that are not in use; of Linux only, elsewhere without limit."""
    if not MEMORY_FILE.is_file():
        return 2**63
    lines = MEMORY_FILE.read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields["MemAvailable"].split()[0]) * 1024
