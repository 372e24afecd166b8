"""Classes of ours as files beside an export, which plain transformers runs with trust_remote_code.

Decides what the files are called and which others they need; knows no class by name.
"""

import importlib.util
import re
from pathlib import Path

HEADER = """\
# Written by glm-export, from the package glm_experiments, which need not be installed. To use it:
# from_pretrained(FOLDER, trust_remote_code=True), or `import glm_experiments` before.
"""
# By which transformers' users know them; all others keep their names.
FILE_NAMES = {
    "config": "configuration_chatglm",
    "modeling": "modeling_chatglm",
    "chatglm_tokenizer": "tokenization_chatglm",
    "chatglm3_tokenizer": "tokenization_chatglm3",
}
_IMPORT = re.compile(r"^from (glm_experiments\.[\w.]+) import ", re.MULTILINE)


def write_own_code(cls: type, folder: Path) -> str:
    """Write the module of a class, and all of ours that it imports; returns its name in `auto_map`.

    cls: whose modules import nothing of ours but names from modules.
    """
    pending, written = [cls.__module__], set()
    while pending:
        module = pending.pop()
        if module in written:
            continue
        written.add(module)
        spec = importlib.util.find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        text = Path(spec.origin).read_text(encoding="utf-8")
        pending += _IMPORT.findall(text)
        text = _IMPORT.sub(lambda found: f"from .{name_file(found[1])} import ", text)
        (folder / f"{name_file(module)}.py").write_text(HEADER + text, encoding="utf-8")
    return f"{name_file(cls.__module__)}.{cls.__name__}"


def name_file(module: str) -> str:
    """The file of a module, without its ending."""
    stem = module.rpartition(".")[2]
    return FILE_NAMES.get(stem, stem)
