"""Full-size models, exact, small in memory, fast: `python dev.py bench size`.

Writes bench/results/size.json. A group is a function `(comfyui, work) -> dict[str, Figure]` in a
file of bench/size_parts/; each group measures its ratios in one run. `--only extract` measures
one group anew and leaves the others' figures as they stand in the file.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# At the end: ahead, the pack's `nodes` would hide ComfyUI's.
sys.path.append(str(ROOT))

from bench.size_parts.apply import apply_figures  # noqa: E402 - after the path
from bench.size_parts.exact import exact_figures  # noqa: E402 - after the path
from bench.size_parts.extract import extract_figures, extract_sdxl_figures  # noqa: E402 - after the path
from bench.size_parts.finetune import finetune_figures  # noqa: E402 - after the path
from bench.size_parts.layout import layout_figures  # noqa: E402 - after the path
from devtools.figures import (  # noqa: E402
    Figure,
    figures_document,
    figures_table,
    read_figures,
    write_figures,
)
from devtools.machine import cpu_name  # noqa: E402

RESULT = ROOT / "bench" / "results" / "size.json"
Group = Callable[[Path, Path], dict[str, Figure]]
GROUPS: dict[str, Group] = {
    "extract": extract_figures,
    "extract_sdxl": extract_sdxl_figures,
    "finetune": finetune_figures,
    "exact": exact_figures,
    "apply": apply_figures,
    "layout": layout_figures,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True)
    parser.add_argument("--only", choices=sorted(GROUPS), action="append")
    parser.add_argument("--work", type=Path, default=ROOT / ".host" / "work")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    measured: dict[str, Figure] = {}
    for name in options.only or GROUPS:
        print(f"size: {name}", flush=True)
        with tempfile.TemporaryDirectory(prefix=f"size-{name}-", dir=options.work) as folder:
            measured |= GROUPS[name](options.comfyui.resolve(), Path(folder))
    document = figures_document(
        "size",
        "python dev.py bench size",
        datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        environment(options.comfyui),
        measured,
    )
    if options.only and RESULT.exists():
        document["figures"] = {**read_figures(RESULT)["figures"], **document["figures"]}
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    write_figures(RESULT, document)
    print(figures_table(document))
    return 0


def environment(comfyui: Path) -> dict[str, str | None]:
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "cpu": cpu_name(),
        "device": device,
        "torch": torch.__version__,
        "host": comfyui.name,
    }


if __name__ == "__main__":
    sys.exit(main())
