"""Values for a node's widgets: as given, else the node's own defaults, checked as the host does."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ...tverase_core.errors import ConfigError
from .plan import unknown_name
from .yaml_text import shown

_SOCKETLESS = ("INT", "FLOAT", "BOOLEAN", "STRING")


def widget_values(
    node: Any,
    given: Mapping[str, Any],
    where: str,
    hidden: Collection[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Every widget's value by name, but for the hidden ones, which the caller sets itself.

    defaults: instead of the node's. Raises ConfigError naming the widget, what it takes and what
    it got.
    """
    inputs = node.INPUT_TYPES()
    schema = {
        name: (kind, options[0] if options else {})
        for name, (kind, *options) in {**inputs["required"], **inputs.get("optional", {})}.items()
        if (isinstance(kind, list) or kind in _SOCKETLESS) and name not in hidden
    }
    for name in given:
        if name not in schema:
            raise unknown_name(name, schema, where)
    values = {
        name: options.get("default", kind[0] if isinstance(kind, list) else None)
        for name, (kind, options) in schema.items()
    }
    values.update({name: v for name, v in (defaults or {}).items() if name in schema})
    for name, value in given.items():
        values[name] = _checked(value, *schema[name], f"{where}: {name}")
    return values


def _checked(value: Any, kind: Any, options: Mapping[str, Any], where: str) -> Any:
    if isinstance(kind, list):
        if value not in kind:
            raise unknown_name(value, kind, where)
        return value
    fits = {"BOOLEAN": bool, "STRING": str, "INT": int, "FLOAT": float}[kind]
    if kind == "FLOAT":
        value = _number(value)
    if not isinstance(value, fits) or (kind == "INT" and isinstance(value, bool)):
        words = {"BOOLEAN": "true or false", "STRING": "text, in quotes", "INT": "a whole number"}
        raise ConfigError(f"{where} is {shown(value)}; expected {words.get(kind, 'a number')}")
    if kind in ("INT", "FLOAT") and not options["min"] <= value <= options["max"]:
        raise ConfigError(
            f"{where} is {shown(value)}; expected {options['min']:g} to {options['max']:g}"
        )
    return value


def _number(value: Any) -> Any:
    """YAML takes 1e-5, which has no point, for text."""
    try:
        return value if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return value
