"""Writes the shipped workflows from their descriptions: `python dev.py workflows`.

Each gives two files: `<name>.json` for the canvas and `api/<name>.json` for POST /prompt. The
blueprint in subgraphs/ comes from here too.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

from devtools import in_process  # noqa: E402 - after the path is set
from devtools.workflow_graph import Graph  # noqa: E402 - after the path is set
from workflows import (  # noqa: E402
    blueprints,
    checkpoint_graphs,
    demo_graphs,
    flow_graphs,
    model_files,
)
from workflows.flow_families import FAMILIES  # noqa: E402

COMFYUI = "0.3.75"  # the version the stock nodes were taken from
WORKFLOWS: dict[str, Callable[[Graph], None]] = {
    "erase_concept": demo_graphs.erase_concept,
    "erase_concept_auto": demo_graphs.erase_concept_auto,
    "erase_concept_flow": demo_graphs.erase_concept_flow,
    "erase_concept_flow_auto": demo_graphs.erase_concept_flow_auto,
    "erase_from_images": demo_graphs.erase_from_images,
    "erase_style": demo_graphs.erase_style,
    "apply_vector": demo_graphs.apply_vector,
    "erase_two_concepts": demo_graphs.erase_two,
    "erase_concept_sd15": checkpoint_graphs.erase_sd15,
    "erase_concept_sdxl": checkpoint_graphs.erase_sdxl,
    **{name: flow_graphs.erase(family) for name, family in FAMILIES.items()},
}
# What a run needs besides the pack: files of the user's, by input name.
NEEDS = {
    "apply_vector": ("file",),
    "erase_concept_sd15": ("ckpt_name",),
    "erase_concept_sdxl": ("ckpt_name",),
    **{name: family.sockets() for name, family in FAMILIES.items()},
}


def pack_version() -> str:
    """The version in pyproject.toml."""
    lines = (ROOT / "pyproject.toml").read_text("utf-8").splitlines()
    return next(line.split('"')[1] for line in lines if line.startswith("version = "))


def render(classes: Mapping[str, Any], display_names: Mapping[str, str]) -> dict[str, str]:
    """Every file's text by its path in the repository. Raises GraphError."""
    packs = {"comfy-core": COMFYUI, "tverase": pack_version()}
    files = {}
    for name, describe in WORKFLOWS.items():
        graph = Graph(classes, display_names, packs, models=model_files.models)
        describe(graph)
        for path, content in ((f"{name}.json", graph.ui()), (f"api/{name}.json", graph.api())):
            files[f"workflows/{path}"] = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    # ComfyUI reads blueprints in the system's encoding, hence ASCII
    content = blueprints.erase_concept(classes, display_names, packs)
    files[f"subgraphs/{blueprints.NAME}.json"] = json.dumps(content, indent=1) + "\n"
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True, help="a ComfyUI source tree")
    options = parser.parse_args()
    host, pack = in_process.import_host(options.comfyui), in_process.load_pack()
    in_process.load_stock_nodes(host)
    classes = {**host.nodes.NODE_CLASS_MAPPINGS, **pack.NODE_CLASS_MAPPINGS}
    names = {**host.nodes.NODE_DISPLAY_NAME_MAPPINGS, **pack.NODE_DISPLAY_NAME_MAPPINGS}
    for path, text in render(classes, names).items():
        (ROOT / path).parent.mkdir(exist_ok=True)
        (ROOT / path).write_text(text, "utf-8", newline="\n")
        print("wrote", path)


if __name__ == "__main__":
    main()
