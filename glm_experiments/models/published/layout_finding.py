"""A folder's config.json -> the layout of its weights: the native config and the converter.

Knows the settings only, and opens no weights.
"""

import functools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, AutoConfig

from glm_experiments.models.published import chatglm2_layout, chatglm_layout
from glm_experiments.models.published.layouts import Converter, Layout
from glm_experiments.models.published.settings_files import blame, read_settings
from glm_experiments.spelling import nearest_word

# What libraries write into any config.json, or once did.
OF_LIBRARIES = ("_name_or_path", "auto_map", "dtype", "torch_dtype", "transformers_version")
LIKELY = 0.85
"""So alike are a misspelt key and the one that was meant, at least."""
log = logging.getLogger(__name__)
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
    if method := settings.get("quantization_config"):
        name_of_method = method.get("quant_method") if isinstance(method, dict) else method
        raise ValueError(
            f"{file} has a quantization_config ({name_of_method}): weights that other software "
            "quantised can't be loaded, only int8 and int4 as ChatGLM published them "
            "(quantization_bit); give the model's folder or id before it was quantised"
        )
    bits = settings.get("quantization_bit") or 0
    if bits not in (0, 4, 8):
        raise ValueError(f"{file}: quantization_bit={bits}; published are 4 and 8")
    with blame(file):
        try:
            config, convert = _choose_layout(settings, file=file, name=name)
        except KeyError as error:
            like = nearest_word(str(error.args[0]), settings, cutoff=LIKELY)
            hint = "download it again" if like is None else f"is {like} meant to be that?"
            raise ValueError(
                f"{file} lacks {error}, which every config.json of its kind has; {hint}"
            ) from error
        except StrictDataclassError as error:
            raise ValueError(f"{file} has a value of the wrong kind: {error}") from error
    warn_of_misspelt_keys(settings, config, file=file)
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


def warn_of_misspelt_keys(settings: Mapping[str, Any], config: Any, *, file: Path) -> None:
    """Warn of keys that nothing reads and that look like one that something does: such a setting
    has its default instead, in silence."""
    is_later = "multi_query_attention" in settings
    published = chatglm2_layout.KEYS if is_later else chatglm_layout.KEYS
    # Only what a plain config of the class has: one that was read has the odd keys as well.
    known = {*type(config)().to_dict(), *type(config).attribute_map, *published, *OF_LIBRARIES}
    for key in settings.keys() - known:
        if (meant := nearest_word(key, known - settings.keys(), cutoff=LIKELY)) is not None:
            warn_once(
                f"{file} has {key}, which nothing reads; if {meant} is meant, correct it: that is "
                f"{getattr(config, meant, 'left at its default')} now"
            )


@functools.cache
def warn_once(message: str) -> None:
    """A folder's settings are read several times in a run."""
    log.warning("%s", message)


def _keep_name(name: str, tensor: torch.Tensor) -> list[tuple[str, torch.Tensor]] | None:
    return [] if name.endswith("rotary_emb.inv_freq") else [(name, tensor)]
