"""One process of the device check: runs the checks named, says what each found.

python bench/device_parts/job.py --comfyui TREE --size full|tiny --work FOLDER CHECK...
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# At the end: ahead, the pack's `nodes` would hide ComfyUI's.
sys.path += [str(ROOT), str(ROOT / "tests")]

from bench.device_parts.place import Place, SkippedError, open_place  # noqa: E402 - after the path
from bench.device_parts.supervise import MARK  # noqa: E402 - after the path

Check = Callable[[Place], dict[str, Any]]
FOLDERS = re.compile(r"(?<![\w.])(?:[A-Za-z]:)?[/\\][^\s'\":;,]*[/\\]")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True)
    parser.add_argument("--size", choices=("full", "tiny"), required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("checks", nargs="+")
    options = parser.parse_args()
    place = open_place(
        options.comfyui,
        options.size == "tiny",
        options.work,
        dynamic="dynamic_vram" in options.checks,
    )
    say(place.environment)
    for name in options.checks:
        say(reported(known()[name], place))
    return 0


def known() -> dict[str, Check]:
    """The checks by name; importing them needs ComfyUI."""
    from bench.device_parts import dynamic, finetunes, formats, precision

    return {
        "patches": precision.patches,
        "dead_zone": precision.dead_zone,
        "quantised": formats.quantised,
        "finetune_sd15": finetunes.sd15,
        "finetune_sdxl": finetunes.sdxl,
        "finetune_flow": finetunes.flow,
        "dynamic_vram": dynamic.dynamic_vram,
    }


def reported(check: Check, place: Place) -> dict[str, Any]:
    """Runs it; `state` is done, skipped or failed."""
    import comfy.model_management
    import torch

    try:
        with torch.inference_mode():  # as ComfyUI runs nodes
            return {"state": "done", "figures": check(place)}
    except SkippedError as reason:
        return {"state": "skipped", "why": str(reason)}
    except Exception as error:  # whatever it is stands in the file, and the next check runs
        place_of = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place_of.filename).name}, line {place_of.lineno}"
        why = FOLDERS.sub("", f"{type(error).__name__} in {where}: {error}")
        return {"state": "failed", "why": why}
    finally:
        comfy.model_management.unload_all_models()
        gc.collect()
        comfy.model_management.soft_empty_cache()


def say(words: dict[str, Any]) -> None:
    print(f"{MARK}{json.dumps(words)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
