"""Where a model keeps its layers, whatever its architecture: the one place that knows."""

from torch import nn
from transformers import PreTrainedModel


def find_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The model's layers, first to last."""
    layers = model.base_model.layers
    assert isinstance(layers, nn.ModuleList)
    return layers
