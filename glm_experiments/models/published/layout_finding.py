"""A folder's config.json -> the layout of its weights: the native config and the converter.

Knows the settings only, and opens no weights.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, AutoConfig

from glm_experiments.models.published import chatglm2_layout, chatglm_layout
from glm_experiments.models.published.layouts import Converter, Layout
from glm_experiments.models.published.settings_files import blame, read_settings

# Native layouts whose files hold the module's own names; later members fuse experts while loading.
_SAME_NAMES = ("glm", "glm4")


def find_layout(folder: Path, *, name: str) -> Layout:
    """The layout that a folder's config.json describes; `name` is the model's path.

    Raises:
        ValueError: no config.json, or one of no GLM that can be loaded, saying why.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise ValueError(
            f"{folder} has no config.json; give a folder with a model's config.json and weights "
            "(an adapter's folder is none: load its model first), or download config.json into it"
        )
    settings = read_settings(file)
    bits = settings.get("quantization_bit") or 0
    if bits not in (0, 4, 8):
        raise ValueError(f"{file}: quantization_bit={bits}; published are 4 and 8")
    with blame(file):
        try:
            config, convert = _choose_layout(settings, file=file, name=name)
        except KeyError as error:
            raise ValueError(
                f"{file} lacks {error}, which every config.json of its kind has; download it again"
            ) from error
        except StrictDataclassError as error:
            raise ValueError(f"{file} has a value of the wrong kind: {error}") from error
    return Layout(config, convert, bits, settings.get("dtype") or settings.get("torch_dtype"))


def _choose_layout(
    settings: Mapping[str, Any], *, file: Path, name: str
) -> tuple[Any, Converter | None]:
    model_type = settings.get("model_type")
    if model_type == "chatglm" and "multi_query_attention" in settings:
        config = chatglm2_layout.build_config(settings, name=name)
        return config, chatglm2_layout.build_converter(config)
    if model_type == "chatglm":
        version_1 = chatglm_layout.build_config(settings, name=name)
        return version_1, chatglm_layout.build_converter(version_1)
    if isinstance(model_type, str) and model_type.startswith("glm"):
        if model_type in CONFIG_MAPPING:
            config = AutoConfig.from_pretrained(file.parent, trust_remote_code=False)
            return config, _keep_name if model_type in _SAME_NAMES else None
        reason = f"the installed transformers does not know model_type {model_type!r}"
    else:
        reason = f"its model_type is {model_type!r}"
    raise ValueError(
        f"{file} describes no GLM model that can be loaded: {reason}; known are chatglm "
        "(ChatGLM-6B, ChatGLM2-6B, ChatGLM3-6B, GLM-4-9B as published), glm, glm4 and the later "
        "native members"
    )


def _keep_name(name: str, tensor: torch.Tensor) -> list[tuple[str, torch.Tensor]] | None:
    return [] if name.endswith("rotary_emb.inv_freq") else [(name, tensor)]
