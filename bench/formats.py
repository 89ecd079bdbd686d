"""Files made by the real tools, read by this pack: `python dev.py bench formats`.

Makes `.host/installs/formats` with the tools (about 1.5 GB, a network is needed). Each tool saves a
file of random factors as its users do and merges it by its own code; the pack's difference must be
the same, or its refusal must name a way that gives it. Writes bench/results/formats.json and
docs/compatibility.md. Exit code: 0 no file is read wrongly, 1 one is.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# At the end: ahead, the pack's `nodes` would hide ComfyUI's.
sys.path.append(str(ROOT))

from devtools import bare_host, in_process  # noqa: E402 - after the path
from devtools.figures import Figure, figures_document, write_figures  # noqa: E402
from devtools.install import run  # noqa: E402

RESULT = ROOT / "bench" / "results" / "formats.json"
PAGE = ROOT / "docs" / "compatibility.md"
MAKE = Path(__file__).resolve().parent / "format_parts" / "make.py"
TOOLS = """torch==2.13.0
numpy==2.4.6
safetensors==0.8.0
peft==0.21.2
diffusers==0.42.1
transformers==5.24.0
accelerate==1.15.0
lycoris-lora==4.1.3
gguf==0.19.0
convert-to-quant==1.3.4
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True)
    options = parser.parse_args()
    python = bare_host.environment("formats", TOOLS, "1.5 GB")
    in_process.import_host(options.comfyui)
    from bench.format_parts import by_comfyui
    from bench.format_parts.case import noted
    from bench.format_parts.page import page
    from bench.format_parts.read import CLOSE, read

    place = ROOT / ".host" / "work"
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="formats-", dir=place) as name:
        work = Path(name)
        run([python, MAKE, work], "a tool could not make its files")
        by_comfyui.save_single_files(work)
        by_comfyui.make(work)
        results = []
        for case in noted(work):
            results.append(read(work, case))
            print(f"{results[-1].outcome:8} {case.name}: {results[-1].sentence}", flush=True)
    count = {
        kind: sum(r.outcome == kind for r in results) for kind in ("exact", "refused", "wrong")
    }
    figures = {
        "formats_tried": Figure(len(results), ">= 18"),
        "formats_exact": Figure(count["exact"]),
        "formats_refused_with_a_way_on": Figure(count["refused"]),
        "formats_wrong": Figure(count["wrong"], "<= 0"),
        "formats_largest_error": Figure(max(r.error for r in results), f"<= {CLOSE:g}"),
    }
    document = figures_document(
        "formats",
        "python dev.py bench formats",
        datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        {"host": by_comfyui.TOOL, **dict(line.split("==") for line in TOOLS.split())},
        figures,
    )
    write_figures(RESULT, document)
    PAGE.write_text(page(results), "utf-8")
    return int(count["wrong"] > 0)


if __name__ == "__main__":
    sys.exit(main())
