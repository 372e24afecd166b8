"""Which room of `models` may import which, so that the next family or format finds its place."""

import pytest

from tests.test_architecture import PACKAGE, read_imports

MODELS = PACKAGE / "models"
ROOMS = ("architectures", "tokenizers", "published")
# Room -> modules of `models` outside of it that it may import.
ALLOWED = {
    "architectures": {"attention", "device_hooks", "mixing_in"},
    "tokenizers": {"published.locations", "published.settings_files"},
    "published": {"devices", "architectures.chatglm.config"},
}


def test_every_folder_with_code_is_a_room():
    assert {each.parent.name for each in MODELS.glob("*/__init__.py")} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_it_may_know(room):
    files = sorted((MODELS / room).rglob("*.py"))
    prefix = "glm_experiments.models."
    modules = {
        ".".join(file.relative_to(MODELS).with_suffix("").parts) for file in MODELS.rglob("*.py")
    }
    found = {
        name.removeprefix(prefix)
        for file in files
        for name in read_imports(file, with_types=True)
        if name.removeprefix(prefix) in modules
    }
    assert {name for name in found if not name.startswith(f"{room}.")} == ALLOWED[room]


def test_one_module_touches_the_private_tables_of_auto_classes():
    touching = {
        file.name
        for file in PACKAGE.rglob("*.py")
        if any(
            name in file.read_text(encoding="utf-8")
            for name in ("REGISTERED_TOKENIZER_CLASSES", "_MAPPING_NAMES", "_extra_content")
        )
    }
    assert touching == {"auto_classes.py"}
