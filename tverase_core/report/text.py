"""Markdown of an erase report, from its JSON alone; no number is computed here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

Entry = Mapping[str, Any]


def markdown(document: Entry) -> str:
    """document: parsed JSON of schema tverase/erase-report/1."""
    sections = [_head(document), _concepts(document), _triggers(document)]
    if document["choice"]:
        sections.append("## How the strength was chosen\n\n" + _pairs(document["choice"]))
    sections += [
        _bullets("Warnings", document["warnings"]),
        _bullets("Not measured", document["not_measured"]),
        "## Settings\n\n" + _pairs(document["settings"]),
        "## Inputs\n\n" + "".join(_input(*item) for item in sorted(document["inputs"].items())),
        "## Environment\n\n" + _pairs(document["environment"]),
    ]
    if document["pictures"]:
        sections.append("## Pictures\n\n" + "".join(map(_picture, document["pictures"])))
    return "\n".join(section for section in sections if section)


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.1f} %"


def _rate(entry: Entry) -> str:
    low, high = entry["interval"]
    return f"{_percent(entry['rate'])} ({_percent(low)} to {_percent(high)})"


def _head(document: Entry) -> str:
    summary = document["summary"]
    worst, kept = summary["worst_trigger"], summary["retained_ratio"]
    lines = [
        f"# Erasure of {document['concept']!r}",
        "",
        f"{'Reduced' if summary['reduced'] else 'Not reduced:'} from "
        f"{_rate(summary['target_before'])} to {_rate(summary['target_after'])} of "
        f"{summary['target_after']['n']} pictures. This holds for the triggers and settings below "
        "and is no proof for others.",
        "",
        f"- Worst trigger: {_cell(worst['trigger'])}, {_rate(worst)}, n = {worst['n']}",
    ]
    if kept["value"] is None:
        lines.append(f"- Retained: not known, {kept['reason']}")
    else:
        span = kept["interval"]
        text = f" ({_percent(span[0])} to {_percent(span[1])})" if span else ""
        lines.append(f"- Retained: {_percent(kept['value'])}{text} of the base, n = {kept['n']}")
    lines.append("- Brackets hold 95 % intervals (rates: Wilson; ratio: bootstrap).")
    return "\n".join(lines) + "\n"


def _concepts(document: Entry) -> str:
    lines = ["## Concepts", "", "| concept | role | base | erased | n |", "|---|---|---|---|---|"]
    for entry in document["concepts"]:
        lines.append(
            f"| {_cell(entry['concept'])} | {entry['role']} | {_rate(entry['base'])} "
            f"| {_rate(entry['erased'])} | {entry['erased']['n']} |"
        )
    return "\n".join(lines) + "\n"


def _triggers(document: Entry) -> str:
    lines = ["## Triggers", "", "| trigger | base | erased | n |", "|---|---|---|---|"]
    for entry in document["triggers"]:
        lines.append(
            f"| {_cell(entry['trigger'])} | {_rate(entry['base'])} | {_rate(entry['erased'])} "
            f"| {entry['erased']['n']} |"
        )
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "\\<").replace("\n", " ")


def _bullets(title: str, sentences: list[str]) -> str:
    return f"## {title}\n\n" + "".join(f"- {s}\n" for s in sentences) if sentences else ""


def _pairs(entries: Entry) -> str:
    return "".join(f"- {name}: {_value(entries[name])}\n" for name in sorted(entries))


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _input(name: str, entry: Entry) -> str:
    return f"- {name}: " + ", ".join(f"{key} {entry[key]}" for key in sorted(entry)) + "\n"


def _picture(entry: Mapping[str, str]) -> str:
    return f"- {entry['file']} (sha256 {entry['sha256']})\n"
