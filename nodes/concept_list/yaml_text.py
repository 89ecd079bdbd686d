"""Plain data from a YAML file, and in sentences, however large it means to be."""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any

import yaml

from ...tverase_core.errors import ConfigError

DEEPEST = 10  # levels of lists in tables in lists; four are enough for all that is asked

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2


class _FlatLoader(yaml.SafeLoader):
    """Plain data that is not deep: PyYAML takes seconds for two thousand brackets."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.YAMLError(f"it is more than {DEEPEST} levels deep")
        made = super().compose_node(parent, index)
        self.depth -= 1
        return made


def read_yaml(path: Path) -> Any:
    """Raises ConfigError for what is no YAML, OSError."""
    try:
        return yaml.load(path.read_text("utf-8"), _FlatLoader)
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path.name} cannot be read as YAML: {reason}") from error


def shown(value: Any) -> str:
    """A value in a sentence. In YAML a few lines can stand for a list of any length."""
    return _SHORT.repr(value) if isinstance(value, list | dict | set | tuple) else repr(value)
