"""What the tests said on each ComfyUI: bench/results/hosts.json, and the table of docs/hosts.md.

`dev.py hosts` calls it with the report of a test run (JUnit XML, as pytest writes it). A run
replaces the row of its own version and leaves the others.
"""

from __future__ import annotations

import argparse
import platform
import re
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

from devtools.figures import Figure, figures_document, read_figures, write_figures  # noqa: E402

RESULT = ROOT / "bench" / "results" / "hosts.json"
PAGE = ROOT / "docs" / "hosts.md"
BEGIN, END = "<!-- matrix -->", "<!-- end of matrix -->"
COMMAND = "python dev.py hosts"


@dataclass(frozen=True)
class Row:
    """One version's run. failed: names of tests; skipped: how many tests, by the reason."""

    date: str
    python: str
    torch: str
    passed: int
    failed: list[str]
    skipped: dict[str, int]


def row_of(report: Path, date: str, torch: str) -> Row:
    """The row that a report makes. A file that cannot be collected counts as a failed test."""
    passed, failed, skipped = 0, [], Counter[str]()
    for case in ElementTree.parse(report).iter("testcase"):
        found = {part.tag: part for part in case}
        if found.keys() & {"failure", "error"}:
            failed.append(str(case.get("name")))
        elif "skipped" in found:
            skipped[str(found["skipped"].get("message"))] += 1
        else:
            passed += 1
    told = dict(sorted(skipped.items()))
    return Row(date, platform.python_version(), torch, passed, sorted(failed), told)


def version_of(tree: Path, otherwise: str) -> str:
    """The version that a tree says it is; `otherwise` for those before 0.3.11, which say none."""
    file = tree / "comfyui_version.py"
    said = re.search(r'"([\d.]+)"', file.read_text("utf-8")) if file.exists() else None
    return said[1] if said else otherwise


def order(version: str) -> tuple[int, ...]:
    """Sorts versions, those without a number first."""
    return tuple(map(int, version.split("."))) if re.fullmatch(r"[\d.]+", version) else ()


def with_row(known: Mapping[str, Any], version: str, row: Row) -> dict[str, Any]:
    """The rows by version, the newest first, with this one in its place."""
    rows = {**known, version: asdict(row)}
    return {name: rows[name] for name in sorted(rows, key=lambda v: (order(v), v), reverse=True)}


def document_of(rows: Mapping[str, Any], date: str) -> dict[str, Any]:
    """The figures file: those of the newest version, and every row."""
    newest = next(iter(rows))
    tests = rows[newest]["passed"] + len(rows[newest]["failed"])
    failed = {"newest_host_failed": Figure(len(rows[newest]["failed"]), "<= 0", tests)}
    made = figures_document("hosts", COMMAND, date, {"host": newest}, failed)
    made["figures"] = {"newest_host": {"value": newest}, **made["figures"]}
    return {**made, "hosts": dict(rows)}


def table(rows: Mapping[str, Any]) -> str:
    """The rows as Markdown, and below it what failed and what was skipped for which reason."""
    lines = ["| ComfyUI | date | Python | torch | passed | failed | skipped |"]
    lines.append("|---|---|---|---|---|---|---|")
    for version, row in rows.items():
        counts = f"{row['passed']} | {len(row['failed'])} | {sum(row['skipped'].values())}"
        lines.append(f"| {version} | {row['date']} | {row['python']} | {row['torch']} | {counts} |")
    for version, row in rows.items():
        reasons = [f"- {reason} ({count} skipped)" for reason, count in row["skipped"].items()]
        told = [f"- **failed**: `{name}`" for name in row["failed"]] + reasons
        if told:
            lines += ["", f"On {version}:", "", *told]
    return "\n".join(lines)


def render(page: str, rows: Mapping[str, Any]) -> str:
    """The page with its table replaced. Raises ValueError when a mark is missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} lacks the marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table(rows)}\n{END}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--name", required=True, help="of a version that does not say its number")
    options = parser.parse_args()
    import torch

    date = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    version = version_of(options.comfyui, options.name)
    known = read_figures(RESULT)["hosts"] if RESULT.exists() else {}
    row = row_of(options.report, date, torch.__version__)
    rows = with_row(known, version, row)
    page = render(PAGE.read_text("utf-8"), rows)
    write_figures(RESULT, document_of(rows, date))
    PAGE.write_text(page, "utf-8", newline="\n")
    counts = f"{row.passed} passed, {len(row.failed)} failed, {sum(row.skipped.values())} skipped"
    print(f"ComfyUI {version}: {counts}", flush=True)
    return 1 if row.failed else 0


if __name__ == "__main__":
    sys.exit(main())
