"""How the pack meets people, in figures: `python dev.py bench people`.

Writes bench/results/people.json. It runs the tests of the user's mistakes and of the browser, and
counts what passed; `--skip-tests` leaves those two figures without a value.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "bench" / "results" / "people.json"
sys.path.append(str(ROOT))

from devtools.machine import cpu_name  # noqa: E402 - after the path


def passed(tests: str) -> list[str]:
    """Names of the tests of a file that passed; skipped ones did not."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        words = [sys.executable, "-m", "pytest", "-q", tests, f"--junitxml={report}"]
        subprocess.run(words, cwd=ROOT, check=False)
        cases = ElementTree.parse(report).iter("testcase")
        return [str(case.get("name")) for case in cases if len(case) == 0]


def import_seconds(comfyui: Path) -> float:
    """Processor time of the pack's import by ComfyUI's own loader, in a process of its own."""
    script = ROOT / "tests" / "host_support" / "load_as_host.py"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, str(script), str(comfyui), str(ROOT)]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


def nodes_without_words(nodes: dict[str, Any]) -> tuple[int, int]:
    """(nodes with a help page, inputs without tooltip)."""
    pages = {page.stem for page in (ROOT / "web" / "docs").glob("*.md")}
    bare = 0
    for node in nodes.values():
        for group, inputs in node.INPUT_TYPES().items():
            if group != "hidden":
                bare += sum(not (len(s) > 1 and s[1].get("tooltip")) for s in inputs.values())
    return len(pages & set(nodes)), bare


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True)
    parser.add_argument("--skip-tests", action="store_true")
    options = parser.parse_args()
    from devtools.figures import Figure, figures_document, figures_table, write_figures
    from devtools.in_process import import_host, load_pack
    from tests.host_support.mistakes import MISTAKES

    import_host(options.comfyui)
    nodes = load_pack().NODE_CLASS_MAPPINGS
    helped, bare = nodes_without_words(nodes)
    workflows = list((ROOT / "workflows").glob("*.json"))
    figures = {
        "workflows_total": Figure(len(workflows)),
        "import_seconds": Figure(import_seconds(options.comfyui), "< 0.3", unit="s of processor"),
        "nodes_total": Figure(len(nodes)),
        "nodes_with_help": Figure(helped, f">= {len(nodes)}"),
        "inputs_without_tooltip": Figure(bare, "<= 0"),
    }
    mistakes, in_browser = Figure(None, reason="not run"), Figure(None, reason="not run")
    if not options.skip_tests:
        told = passed("tests/nodes/test_user_mistakes.py")
        walked = [group for group in MISTAKES if any(f"[{group}]" in name for name in told)]
        mistakes = Figure(sum(len(MISTAKES[group]) for group in walked), ">= 25")
        # one test for each workflow, which has its name in brackets
        seen = [name for name in passed("tests/texts/test_browser.py") if "[" in name]
        in_browser = Figure(len(seen), f">= {len(workflows)}")
    figures |= {"user_mistakes_tested": mistakes, "workflows_passed_in_browser": in_browser}
    document = figures_document(
        "people",
        "python dev.py bench people" + (" --skip-tests" if options.skip_tests else ""),
        datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        {"machine": cpu_name(), "device": "cpu", "host": options.comfyui.name},
        figures,
    )
    write_figures(RESULT, document)
    print(figures_table(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
