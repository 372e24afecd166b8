"""The configuration of ChatGLM-6B, version 1, by transformers' names and by the published ones."""

# transformers is typed in parts: its decorators, hooks and class variables are not.
# mypy: disable-error-code="no-untyped-call"

from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class ChatGLMConfig(PreTrainedConfig):
    """Configuration of ChatGLM-6B; the published names of its keys are understood as well.

    The defaults are the published model's. `bos_token_id` is `<sop>`, where a context ends, and
    `eos_token_id` is `<eop>`.
    """

    model_type = "chatglm"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values", "cache"]
    attribute_map: ClassVar[dict[str, str]] = {
        "num_layers": "num_hidden_layers",
        "inner_hidden_size": "intermediate_size",
        "layernorm_epsilon": "layer_norm_eps",
        "max_sequence_length": "max_position_embeddings",
    }
    # Rows of query_key_value are sorted by heads, so that equal shares of them are whole heads. The
    # head is tied to the embedding, so that both have a share of the vocabulary.
    base_model_tp_plan: ClassVar[dict[str, str]] = {
        "word_embeddings": "embedding_rowwise",
        "layers.*.attention.query_key_value": "colwise",
        "layers.*.attention.dense": "rowwise",
        "layers.*.mlp.dense_h_to_4h": "colwise",
        "layers.*.mlp.dense_4h_to_h": "rowwise",
    }

    vocab_size: int = 130528
    hidden_size: int = 4096
    intermediate_size: int = 16384
    num_hidden_layers: int = 28
    num_attention_heads: int = 32
    head_dim: int | None = None
    max_position_embeddings: int = 2048
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    use_cache: bool = True
    tie_word_embeddings: bool = True
    mask_token_id: int | None = 130000
    gmask_token_id: int | None = 130001
    bos_token_id: int | None = 130004
    eos_token_id: int | list[int] | None = 130005
    pad_token_id: int | None = 3

    def __post_init__(self, **kwargs: Any) -> None:
        if not kwargs.pop("position_encoding_2d", True):
            raise ValueError(
                "position_encoding_2d=false: the model has two axes of positions; take "
                "config.json from the published ChatGLM-6B"
            )
        if __name__.startswith("glm_experiments."):
            # The code beside the weights is not used here; from there, this class is part of it.
            kwargs.pop("auto_map", None)
        if self.head_dim is None:
            self.head_dim = self.hidden_size // self.num_attention_heads
        super().__post_init__(**kwargs)

    @property
    def foreign_weights(self) -> str | None:
        """What the weights are that such a config.json was published with; None: this model's."""
        if hasattr(self, "multi_query_attention"):
            return "those of ChatGLM2, ChatGLM3 or GLM-4, which say 'chatglm' as ChatGLM-6B does"
        if bits := getattr(self, "quantization_bit", 0):
            return f"quantised (quantization_bit={bits})"
        return None
