"""Files that hold measured figures, so that documents quote them instead of typing them."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tverase_core.errors import ConfigError, FormatError

SCHEMA = "tverase/figures/1"
_TARGET = re.compile(r"(interval )?(<=|>=|<|>) (-?[0-9.]+(?:e-?[0-9]+)?)", re.IGNORECASE)
_COMPARE = {
    "<=": lambda value, goal: value <= goal,
    ">=": lambda value, goal: value >= goal,
    "<": lambda value, goal: value < goal,
    ">": lambda value, goal: value > goal,
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number, or None with the reason why there is none.

    target: the goal as asked, such as "<= 0.05"; "interval > 0" asks it of the whole interval.
    n, interval: where the value is a rate or a mean. Raises ConfigError for a broken combination.
    """

    value: float | None
    target: str | None = None
    n: int | None = None
    interval: tuple[float, float] | None = None
    unit: str | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        if (self.value is None) != (self.reason is not None):
            raise ConfigError("A figure has either a value or the reason why it has none.")
        numbers = [x for x in (self.value, *(self.interval or ())) if x is not None]
        if not all(math.isfinite(x) for x in numbers):
            raise ConfigError(f"A figure must be finite, got {numbers}; use None and a reason.")
        if self.target is not None and not _TARGET.fullmatch(self.target):
            raise ConfigError(f"Target {self.target!r} is not of the form '<= 0.05'.")

    def met(self) -> bool | None:
        """Whether the target is met; None without target. A figure without value meets none."""
        if self.target is None:
            return None
        parts = _TARGET.fullmatch(self.target)
        if parts is None or self.value is None:
            return False
        whole, sign, goal = parts.groups()
        judged: tuple[float, ...] = (self.value,) if not whole else self.interval or ()
        return bool(judged) and all(_COMPARE[sign](value, float(goal)) for value in judged)

    def to_dict(self) -> dict[str, Any]:
        """The entry as it stands in the file; absent parts are left out, `value` never is."""
        optional = {
            "target": self.target,
            "met": self.met(),
            "n": self.n,
            "interval": list(self.interval) if self.interval else None,
            "unit": self.unit,
            "reason": self.reason,
        }
        kept = {name: part for name, part in optional.items() if part is not None}
        return {"value": self.value, **kept}


def figures_document(
    name: str,
    command: str,
    date: str,
    environment: Mapping[str, str | None],
    figures: Mapping[str, Figure],
) -> dict[str, Any]:
    """The whole file as plain data. date: UTC, given by the caller so that tests can fix it."""
    return {
        "schema": SCHEMA,
        "name": name,
        "command": command,
        "date": date,
        "environment": dict(environment),
        "figures": {key: figure.to_dict() for key, figure in figures.items()},
    }


def write_figures(path: Path, document: Mapping[str, Any]) -> None:
    """Write the document, readable and in a stable order, in one stroke."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(
            json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
            encoding="utf-8",
        )
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_figures(path: Path) -> dict[str, Any]:
    """Read a figures file. Raises FormatError when it is not one."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FormatError(f"{path.name} is not JSON: {error}") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise FormatError(f"{path.name} is not a figures file: expected schema {SCHEMA!r}.")
    return document


def figures_table(document: Mapping[str, Any]) -> str:
    """The figures as a Markdown table; computes nothing."""
    lines = ["| figure | value | interval | n | target | met |", "|---|---|---|---|---|---|"]
    for name, entry in document["figures"].items():
        value = entry["value"]
        shown = f"none: {entry['reason']}" if value is None else f"{value:.4g}"
        if value is not None and "unit" in entry:
            shown += f" {entry['unit']}"
        interval = "{:.3g} to {:.3g}".format(*entry["interval"]) if "interval" in entry else ""
        met = {True: "yes", False: "no", None: ""}[entry.get("met")]
        lines.append(
            f"| {name} | {shown} | {interval} | {entry.get('n', '')} | {entry.get('target', '')} "
            f"| {met} |"
        )
    return "\n".join(lines) + "\n"


def shown(figure: Figure | None, digits: int = 3, missing: str = "-") -> str:
    """A value with its interval, for a cell of a page; `missing` where there is none."""
    if figure is None or figure.value is None:
        return missing
    ends = figure.interval
    bounds = f" ({ends[0]:.{digits}f} to {ends[1]:.{digits}f})" if ends else ""
    return f"{figure.value:.{digits}f}{bounds}"
