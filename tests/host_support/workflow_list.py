"""docs/workflows.md: every shipped workflow, and what the browser tests saw it do."""

from __future__ import annotations

import json
from collections.abc import Mapping

from host_support.places import ROOT
from workflows import build

PAGE = ROOT / "docs" / "workflows.md"
HEAD = f"""# The shipped workflows

Written by `python dev.py test tests/texts/test_browser.py`; do not edit. Each workflow is opened
in the frontend of ComfyUI {build.COMFYUI} in a real browser. No node may be missing, and what the
canvas queues must equal the twin in `workflows/api/`. Then counts and steps are lowered in the
widgets, Run is pressed, and every node that shows pictures must show them. The lowered settings
show that a workflow works, not how well it erases.

| workflow | opens with | nodes | needs | in the browser |
|---|---|---|---|---|
"""
NEEDS = {
    "ckpt_name": "your checkpoint",
    "file": "a task vector",
    "unet_name": "diffusion model",
    "clip_name": "text encoder",
    "clip_name1": "two text encoders",
    "vae_name": "VAE",
}


def write(statuses: Mapping[str, str]) -> None:
    """Writes the page from a sentence for each workflow."""
    PAGE.write_text(HEAD + "".join(map(_row, sorted(statuses.items()))), "utf-8", newline="\n")


def _row(found: tuple[str, str]) -> str:
    name, status = found
    graph = json.loads((ROOT / "workflows" / f"{name}.json").read_text("utf-8"))
    notes = [node for node in graph["nodes"] if node["type"] == "MarkdownNote"]
    title = notes[0]["widgets_values"][0].splitlines()[0].removeprefix("# ")
    working = len(graph["nodes"]) - len(notes)
    sockets = build.NEEDS.get(name, ())
    needs = ", ".join(NEEDS[socket] for socket in sockets if socket in NEEDS) or "nothing"
    return f"| `{name}` | {title} | {working} | {needs} | {status} |\n"
