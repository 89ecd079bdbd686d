"""Load a pack folder with ComfyUI's own loader; what that took, as JSON on the last line."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import json
import sys
import time
from pathlib import Path

from devtools.in_process import import_host


def error_names() -> list[str]:
    """The modules of the pack's errors, as the host shows them."""
    name = next(name for name in sys.modules if name.endswith("tverase_core.errors"))
    kinds = vars(sys.modules[name])["TveraseError"].__subclasses__()  # itself it is never raised
    return sorted({kind.__module__ for kind in kinds})


def main(tree: Path, pack: Path) -> None:
    began = time.process_time()
    host = import_host(tree)
    # The host's loader reads a pack's pyproject.toml with this, and imports it at the first pack.
    if importlib.util.find_spec("comfy_config"):
        importlib.import_module("comfy_config.config_parser")
    host_seconds = time.process_time() - began
    before = set(sys.modules)
    own = set(host.nodes.NODE_CLASS_MAPPINGS)
    began = time.process_time()
    loaded = host.nodes.load_custom_node(str(pack))
    if inspect.isawaitable(loaded):  # in older ComfyUI it is no coroutine
        loaded = asyncio.run(loaded)
    seconds = time.process_time() - began
    core = [name.partition("tverase_core.")[2] for name in sys.modules]
    brought = {name.partition(".")[0] for name in set(sys.modules) - before}
    answer = {
        "loaded": loaded,
        "seconds": seconds,
        "host_seconds": host_seconds,
        "core": sorted(filter(None, core)),
        "modules": sorted(name for name in brought if str(pack)[:1] != name[:1]),
        "errors": error_names(),
        "nodes": sorted(set(host.nodes.NODE_CLASS_MAPPINGS) - own),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
