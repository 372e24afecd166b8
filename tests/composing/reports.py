"""What is said of a command line that is wrong."""

import pytest

from glm_experiments.composing.checking import check_command_line


def report(*overrides: str, **settings: object) -> list[str]:
    """The problems of a command line, without their dashes."""
    with pytest.raises(ValueError, match=r"^- ") as caught:
        check_command_line(list(overrides), **settings)  # type: ignore[arg-type]
    return [line.removeprefix("- ") for line in str(caught.value).splitlines()]
