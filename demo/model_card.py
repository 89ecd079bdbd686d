"""Writes the figures into MODEL_CARD.md, so that nobody types them: `python demo/model_card.py`.

Everything between a pair of marks comes from a figures file; the rest of the card is prose.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

from devtools.figures import read_figures  # noqa: E402 - after the path

CARD = HERE / "MODEL_CARD.md"
END = "<!-- end of figures -->"
FIGURES = {  # by the mark above them
    "<!-- figures -->": HERE / "figures.json",
    "<!-- figures of flow -->": HERE.parent / "bench" / "results" / "flow.json",
}
NAMES = {
    "object_hit_mean": "prompted object recognised, mean of all objects",
    "object_hit_worst": "prompted object recognised, worst object",
    "style_hit_mean": "prompted style recognised, mean of all styles",
    "judge_accuracy": "judge right on renderings at a size never trained on",
    "model_bytes": "bytes shipped",
    "flow_base_hit_mean": "prompted object recognised, mean of all objects",
    "flow_base_hit_worst": "prompted object recognised, worst object",
    "flow_target_hit_before": "`demo --flow`: cat recognised before",
    "flow_target_hit_after": "`demo --flow`: cat recognised after",
    "flow_retained_ratio": "`demo --flow`: hits that the other objects keep",
    "flow_demo_seconds": "`demo --flow`: seconds",
    "flow_model_bytes": "bytes shipped",
}


def table(document: Mapping[str, Any]) -> str:
    """The figures that tell of the model as a Markdown table, and one sentence on those that fell
    short; evidence on methods is not the card's."""
    lines = ["| figure | measured | asked | met |", "|---|---|---|---|"]
    figures = {NAMES[name]: e for name, e in document["figures"].items() if name in NAMES}
    for name, entry in figures.items():
        label = name + (f" (n = {entry['n']})" if "n" in entry else "")
        met = {True: "yes", False: "no", None: ""}[entry.get("met")]
        lines.append(f"| {label} | {shown(entry)} | {entry.get('target', '')} | {met} |")
    short = [name for name, entry in figures.items() if entry.get("met") is False]
    verdict = f"Short of what was asked: {'; '.join(short)}." if short else "All were met."
    where = f"Measured {document['date']} with {document['environment']['host']} on a CPU by"
    return "\n".join([*lines, "", verdict, f"{where} `{document['command']}`."])


def shown(entry: Mapping[str, Any]) -> str:
    """A value with its interval."""
    value = entry["value"]
    if value is None:
        return f"none: {entry['reason']}"
    if entry.get("unit") == "bytes":
        return f"{value / 1e6:.1f} million"
    interval = " ({:.3f} to {:.3f})".format(*entry["interval"]) if "interval" in entry else ""
    number = str(value) if isinstance(value, int) else f"{value:.3f}"
    return f"{number}{interval}"


def render(card: str) -> str:
    """The card with its figures replaced. Raises ValueError when a mark is missing."""
    for mark, file in FIGURES.items():
        before, begin, rest = card.partition(mark)
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise ValueError(f"{CARD.name} lacks the marks {mark} and {END}")
        if file.exists():
            card = f"{before}{mark}\n{table(read_figures(file))}\n{END}{after}"
    return card


if __name__ == "__main__":
    CARD.write_text(render(CARD.read_text("utf-8")), "utf-8", newline="\n")
