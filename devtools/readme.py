"""Writes measured figures into README.md, so that nobody types them: `python devtools/readme.py`.

Between the marks stands what the committed figures files hold; files that are not there yet are
left out.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

from demo.model_card import shown  # noqa: E402 - after the path is set
from devtools.figures import read_figures  # noqa: E402

README = ROOT / "README.md"
MEASURED = ("demo", "arena", "quantised", "formats", "flow", "faults", "peers")
SOURCES = ("demo/figures.json", *(f"bench/results/{name}.json" for name in MEASURED))
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"


# Of the arena's many figures the table shows those with a target, and each method's two that its
# picture shows; docs/claims.md has all.
ARENA_ENDS = ("_leak", "_kept")


def row(name: str, entry: dict[str, Any], source: str) -> str:
    """One figure as a line of the table."""
    count = f", n = {entry['n']}" if entry.get("n") else ""
    met = {True: "yes", False: "**no**", None: ""}[entry.get("met")]
    where = f"[{Path(source).stem}]({source})"
    return f"| `{name}` | {shown(entry)}{count} | {entry.get('target', '')} | {met} | {where} |"


def stands(source: str, name: str, entry: dict[str, Any]) -> bool:
    """Whether the table shows the figure."""
    if not source.endswith("arena.json") or "target" in entry:
        return True
    return name.endswith(ARENA_ENDS) and entry["value"] is not None


def table(sources: Sequence[str] = SOURCES) -> str:
    """The figures of the files that exist, met or not."""
    lines = ["| figure | measured (95 % interval) | asked | met | file |", "|---|---|---|---|---|"]
    for source in sources:
        if (ROOT / source).exists():
            figures = read_figures(ROOT / source)["figures"]
            lines += [row(n, e, source) for n, e in figures.items() if stands(source, n, e)]
    return "\n".join(lines)


def render(text: str) -> str:
    """The README with its table replaced. Raises ValueError when a mark is missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md lacks the marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    README.write_text(render(README.read_text("utf-8")), "utf-8", newline="\n")
