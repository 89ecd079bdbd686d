"""Vectors learned in the host's text encoders: `python dev.py bench encoders`.

On a CPU, with encoders of the host's own classes, small and random, of ten families of models
(tests/host_support/tiny_encoders.py): whether an inversion lowers its loss, how far gradients are
from finite differences, whether stock CLIPTextEncode makes the same of an exported embedding, and
whether the encoder keeps its bits. Writes bench/results/encoders.json, a part for each ComfyUI that
it is run on (COMFYUI_PATH and COMFYUI_PYTHON choose one) beside those of the others.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# At the end: ahead, the pack's `nodes` would hide ComfyUI's.
sys.path += [str(ROOT), str(ROOT / "tests")]

import torch  # noqa: E402 - after the path

from devtools import in_process  # noqa: E402
from devtools.figures import Figure, figures_document, figures_table, write_figures  # noqa: E402
from devtools.machine import cpu_name  # noqa: E402

RESULT = ROOT / "bench" / "results" / "encoders.json"
GRADIENT, SAME = 0.02, 1e-5  # what errors of a gradient and differences to stock may be at most


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True)
    in_process.import_host(parser.parse_args().comfyui)
    in_process.load_pack()
    torch.set_num_threads(1)
    from tverase_pack.nodes.host.app.version import host_version

    from host_support import tiny_encoders

    found = {}
    for name in tiny_encoders.FAMILIES:
        if tiny_encoders.known(name):
            with tempfile.TemporaryDirectory() as folder:
                found[name] = tried(name, Path(folder))
            print(name, json.dumps(found[name]), flush=True)
    held = json.loads(RESULT.read_text("utf-8"))["hosts"] if RESULT.exists() else {}
    hosts = {**held, host_version(): found}
    environment = {"comfyui": host_version(), "torch": torch.__version__, "cpu": cpu_name()}
    when = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    command = "python dev.py bench encoders"
    document = figures_document("encoders", command, when, environment, figures(hosts))
    document["hosts"] = dict(sorted(hosts.items()))
    write_figures(RESULT, document)
    print(figures_table(document))
    return 0


def figures(hosts: dict[str, dict[str, Any]]) -> dict[str, Figure]:
    """Of the version on which fewest work."""
    learned = [
        {key for family in found.values() if family["works"] for key in family["widths"]}
        for found in hosts.values()
    ]
    families = [sum(family["works"] for family in found.values()) for found in hosts.values()]
    return {
        "encoders_inverted": Figure(min(len(keys) for keys in learned), ">= 6"),
        "encoder_families_inverted": Figure(min(families), ">= 6"),
    }


def tried(name: str, folder: Path) -> dict[str, Any]:
    """A family: its embeddings' keys with their widths at full size, and what was measured."""
    from tverase_pack.nodes.host.text.encoder import HostTextEncoder

    from host_support import encoder_steps as steps
    from host_support import tiny_encoders

    family = tiny_encoders.FAMILIES[name]
    model, clip = tiny_encoders.build_model(name), tiny_encoders.build(name, folder=str(folder))
    before, encoder = steps.copied_weights(clip), HostTextEncoder(model, clip)
    by_name = [tower.reads_embeddings for tower in encoder._towers.values()]
    first, last = steps.losses(model, encoder, family.template)
    gradient = max(steps.gradient_errors(encoder, family.template).values())
    kept = steps.same_weights(clip, before)
    found, difference = steps.a_set(encoder, family.template), None
    if name not in tiny_encoders.UNREAD:
        difference = steps.stock_difference(clip, encoder, found, folder)
    return {
        "widths": family.keys,
        "read_by_name": all(by_name),
        "stock_difference": difference,
        "gradient_error": round(gradient, 6),
        "loss_before": round(first, 4),
        "loss_after": round(last, 4),
        "encoder_unchanged": kept,
        "works": kept and last < first and gradient <= GRADIENT and (difference or 0) <= SAME,
    }


if __name__ == "__main__":
    sys.exit(main())
