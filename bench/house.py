"""The house in figures: how large its rooms are, who imports whom, what its door costs.

    python dev.py bench house

Writes bench/results/house.json. Shipped code is the Python under tverase_core/ and nodes/, counted
with blank lines, comments and docstrings; it is compared with the tree that the house was built
from.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

from bench.people import import_seconds  # noqa: E402 - after the path
from bench.weight_reads import weight_reads_per_edit  # noqa: E402
from devtools.figures import Figure, figures_document, figures_table, write_figures  # noqa: E402
from devtools.import_graph import circles, import_graph  # noqa: E402
from devtools.layers import CORE  # noqa: E402
from devtools.machine import cpu_name  # noqa: E402

RESULT = ROOT / "bench" / "results" / "house.json"
BEFORE = "950c872"
SHIPPED = ("tverase_core", "nodes")


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


def shipped_files() -> list[Path]:
    """The tracked Python files that users get."""
    return [ROOT / name for name in _git("ls-files", *SHIPPED).split("\n") if name.endswith(".py")]


def lines_before() -> int:
    """Lines of the shipped code at BEFORE."""
    names = [n for n in _git("ls-tree", "-r", "--name-only", BEFORE, *SHIPPED).split("\n")]
    return sum(_git("show", f"{BEFORE}:{n}").count("\n") for n in names if n.endswith(".py"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True)
    options = parser.parse_args()
    files = shipped_files()
    folders = Counter(path.parent for path in files)
    lines, before = sum(p.read_text("utf-8").count("\n") for p in files), lines_before()
    commit = _git("rev-parse", "--short", "HEAD").strip()
    seconds = statistics.median(import_seconds(options.comfyui) for _ in range(5))
    figures = {
        "largest_folder": Figure(max(folders.values()), "<= 15", unit="files"),
        "import_circles": Figure(len(circles(import_graph(ROOT, *SHIPPED))), "<= 0"),
        "core_layers": Figure(len(CORE), "<= 8"),
        "shipped_lines": Figure(lines, f"<= {int(0.92 * before)}"),
        "shipped_lines_before": Figure(before),
        "weight_reads_per_edit": Figure(weight_reads_per_edit(), "<= 1"),
        "import_seconds": Figure(round(seconds, 3), "< 0.3", unit="s of processor, median of 5"),
    }
    document = figures_document(
        "house",
        "python dev.py bench house",
        datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        {"machine": cpu_name(), "host": options.comfyui.name, "commit": commit},
        figures,
    )
    write_figures(RESULT, document)
    print(figures_table(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
