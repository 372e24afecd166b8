"""`AutoModelForCausalLM` on any published ChatGLM, for software that knows no other way to load.

Decides which loader a folder of model_type chatglm needs: transformers' or ours.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from glm_experiments.models.architectures.chatglm.modeling import ChatGLMForCausalLM
from glm_experiments.models.loading import load_model

# Options of from_pretrained that our loader has, and those that change nothing about a model.
TAKEN = ("dtype", "torch_dtype", "device_map", "revision", "attn_implementation")
WITHOUT_EFFECT = (
    *("adapter_kwargs", "local_files_only", "low_cpu_mem_usage", "trust_remote_code"),
    "use_safetensors",
)


class PublishedForCausalLM(ChatGLMForCausalLM):  # type: ignore[no-untyped-call]
    """What AutoModelForCausalLM asks; there is never an object of it."""

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | Path,
        *model_args: Any,
        config: Any = None,
        **kwargs: Any,
    ) -> PreTrainedModel:
        """Version 1 as the library loads it; its int8 and int4 weights, and the later versions,
        which have the same model_type, as native modules in floating point.

        Raises:
            ValueError: an option that our loader lacks.
        """
        path = pretrained_model_name_or_path
        if config is None or config.foreign_weights is None:
            model: PreTrainedModel = ChatGLMForCausalLM.from_pretrained(
                path, *model_args, config=config, **kwargs
            )
            return model
        options = {name: value for name, value in kwargs.items() if value}
        if unknown := sorted(options.keys() - {*TAKEN, *WITHOUT_EFFECT}):
            raise ValueError(
                f"{', '.join(unknown)}: the weights of {path} are {config.foreign_weights}, which "
                f"are loaded with {', '.join(TAKEN)} alone; leave it out"
            )
        dtype = options.get("dtype", options.get("torch_dtype"))
        if isinstance(dtype, str):
            dtype = None if dtype == "auto" else getattr(torch, dtype.removeprefix("torch."), dtype)
        return load_model(
            path,
            dtype=dtype,
            device_map=options.get("device_map"),
            revision=options.get("revision"),
            attn_implementation=options.get("attn_implementation"),
        )

    @classmethod
    def _from_config(cls, config: Any, **kwargs: Any) -> Any:
        plain: Any = ChatGLMForCausalLM
        return plain._from_config(config, **kwargs)
