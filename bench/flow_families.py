"""Every flow-matching family of the host, small and random: `python dev.py bench flow_families`.

On a CPU, in float32, with the host's own classes: does the family open as a denoiser, are gradients
right against a finite difference, with recomputed blocks too, does a fine-tune move its weights and
leave the base as it was to the bit, how far is the memory plan's count from what autograd keeps.
COMFYUI_PATH and COMFYUI_PYTHON choose another ComfyUI; each version has its part of the result.
Writes bench/results/flow_families.json. Says nothing about how well a trained model is erased.
"""

from __future__ import annotations

import argparse
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# At the end: ahead, the pack's `nodes` would hide ComfyUI's.
sys.path += [str(ROOT), str(ROOT / "tests")]

import torch  # noqa: E402 - after the path

from devtools import in_process  # noqa: E402
from devtools.figures import (  # noqa: E402
    Figure,
    figures_document,
    figures_table,
    read_figures,
    write_figures,
)
from devtools.machine import cpu_name  # noqa: E402

RESULT = ROOT / "bench" / "results" / "flow_families.json"
FINETUNE: dict[str, Any] = {
    **{"steps": 2, "learning_rate": 1e-2, "batch_size": 2, "accumulation": 1, "seed": 3},
    **{"flip": True, "ema": False, "weight_decay": 0.01, "gradient_clip": 1.0, "rank": 0},
}
RIGHT = 0.02  # a gradient may differ from the finite difference by this share
Row = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True)
    in_process.import_host(parser.parse_args().comfyui)
    pack = in_process.load_pack()
    torch.set_num_threads(1)
    from tverase_pack.nodes.host.app.version import host_version

    from host_support.tiny_flow import FAMILIES

    found: dict[str, Row] = {}
    for name in FAMILIES:
        found[name] = row(pack, name)
        print(name, found[name], flush=True)
    hosts = read_figures(RESULT)["hosts"] if RESULT.exists() else {}
    hosts[host_version()] = found
    environment = {"comfyui": host_version(), "torch": torch.__version__, "cpu": cpu_name()}
    when = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    command = "python dev.py bench flow_families"
    document = figures_document("flow_families", command, when, environment, figures(found))
    document["hosts"] = hosts
    write_figures(RESULT, document)
    print(figures_table(document))
    return 0


def row(pack: Any, name: str) -> Row:
    """What there is to say of one family; `trained` is all of it together."""
    import comfy.supported_models

    from host_support import flow_steps
    from host_support.host_steps import node, same, weights
    from host_support.tiny_flow import FAMILIES, build, pictures

    if not hasattr(comfy.supported_models, FAMILIES[name].config):
        return {"known": False, "trained": False}
    model = build(name)
    before = weights(model)
    plain = flow_steps.one_pass(model, name)
    again = flow_steps.one_pass(model, name, recompute=True)
    ratio = flow_steps.finite_difference(model, name, plain) / plain.slope()
    recomputed = all(
        (a is None) == (b is None) and (a is None or bool(torch.equal(a, b)))
        for a, b in zip(plain.gradients.values(), again.gradients.values(), strict=True)
    )
    kept = flow_steps.one_pass(model, name, lengths=flow_steps.EQUAL).kept
    vector = node(pack, "ConceptFinetune", model=model, concept_set=pictures(name), **FINETUNE)[2]
    untouched = same(weights(model), before)
    return {
        "known": True,
        "finite_difference_over_gradient": round(ratio, 5),
        "recomputed_gradients_are_equal": recomputed,
        "weights": len(plain.gradients),
        "weights_moved": len(vector.deltas),
        "base_untouched": untouched,
        "memory_estimate_over_kept": round(flow_steps.estimated(model, name) / kept, 4),
        "trained": abs(ratio - 1) <= RIGHT and recomputed and untouched and bool(vector.deltas),
    }


def figures(found: dict[str, Row]) -> dict[str, Figure]:
    known = [row for row in found.values() if row["known"]]
    errors = [abs(row["memory_estimate_over_kept"] - 1) for row in known]
    return {
        "families_total": Figure(len(known), ">= 9"),
        "families_trained": Figure(sum(row["trained"] for row in known), f">= {len(known)}"),
        "flow_memory_estimate_error": Figure(round(max(errors), 4), "<= 0.15"),
    }


if __name__ == "__main__":
    sys.exit(main())
