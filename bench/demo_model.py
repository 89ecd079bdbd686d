"""Measure the demo model with the host's own sampler: `python dev.py bench demo_model`.

Writes demo/figures.json (the figures), demo/results.json (every object and style) and
docs/images/demo_samples.png.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

from devtools.api_graph import ERASE_CONCEPT, read_graph, sampling_of  # noqa: E402 - after the path
from devtools.in_process import import_host, load_pack  # noqa: E402
from devtools.machine import cpu_name  # noqa: E402

MODEL = ROOT / "demo" / "model"
SEED = 500_000
SAMPLING = sampling_of(read_graph(ERASE_CONCEPT))
BATCH = 50


def pictures(
    parts: tuple[Any, Any, Any],
    prompt: str,
    count: int,
    seed: int,
    sampling: Mapping[str, Any] = SAMPLING,
) -> Any:
    """`count` pictures of the prompt, drawn by the stock KSampler node's own function."""
    import torch

    import nodes

    model, clip, vae = parts
    positive = nodes.CLIPTextEncode().encode(clip, prompt)[0]
    negative = nodes.CLIPTextEncode().encode(clip, "")[0]
    drawn = []
    for start in range(0, count, BATCH):
        latent = {"samples": torch.zeros(min(BATCH, count - start), 4, 8, 8)}
        done = nodes.common_ksampler(
            model,
            seed + start,
            sampling["steps"],
            sampling["cfg"],
            sampling["sampler_name"],
            sampling["scheduler"],
            positive,
            negative,
            latent,
        )[0]
        drawn.append(vae.decode(done["samples"]))
    return torch.cat(drawn)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True)
    parser.add_argument("--count", type=int, default=100)
    options = parser.parse_args()
    import_host(options.comfyui)
    load_pack()
    import comfyui_version
    import torch
    from tverase_pack.demo.judge_network import load_demo_judge
    from tverase_pack.devtools.figures import figures_document, figures_table, write_figures
    from tverase_pack.nodes.host.app.demo_model import load_demo_model
    from tverase_pack.nodes.pictures.compare import compare_grid

    torch.set_num_threads(os.cpu_count() or 1)
    judge = load_demo_judge(MODEL / "demo_judge.safetensors")
    rates: dict[str, dict[str, Any]] = {"objects": {}, "styles": {}}
    sheet = []
    with torch.inference_mode():
        parts = load_demo_model(MODEL)
        for number, name in enumerate(judge.objects):
            drawn = pictures(parts, f"a {name}", options.count, SEED + 1000 * number)
            rates["objects"][name] = rate(judge.score(drawn, name))
            sheet.append((f"a {name}", drawn[:10]))
            print(name, rates["objects"][name], flush=True)
        for number, style in enumerate(judge.styles):
            each = -(-options.count // len(judge.objects)) + 1
            drawn = torch.cat(
                [
                    pictures(
                        parts, f"a {o} in {style} style", each, SEED + 50_000 * (number + 1) + i
                    )
                    for i, o in enumerate(judge.objects)
                ]
            )
            rates["styles"][style] = rate(judge.score(drawn, style))
            sheet.append((f"... in {style} style", drawn[::each][:10]))
            print(style, rates["styles"][style], flush=True)
    compare_grid(sheet, 10).save(ROOT / "docs" / "images" / "demo_samples.png")
    (ROOT / "demo" / "results.json").write_text(
        json.dumps({"sampling": SAMPLING, **rates}, indent=1, sort_keys=True) + "\n"
    )
    environment = {
        "cpu": cpu_name(),
        "device": "cpu",
        "torch": torch.__version__,
        "host": f"ComfyUI {comfyui_version.__version__}",
    }
    document = figures_document(
        "demo model",
        "python dev.py bench demo_model",
        datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        environment,
        figures(rates),
    )
    write_figures(ROOT / "demo" / "figures.json", document)
    print(figures_table(document))
    return 0


def rate(scores: Any) -> dict[str, Any]:
    """Hits at 0.5 or more, n, and the 95 % Wilson interval."""
    from tverase_pack.tverase_core.judging.statistics import wilson

    hits, n = int((scores >= 0.5).sum()), len(scores)
    low, high = wilson(hits, n)
    return {"hits": hits, "n": n, "low": round(low, 4), "high": round(high, 4)}


def figures(rates: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The figures that the model card promises."""
    from tverase_pack.devtools.figures import Figure
    from tverase_pack.tverase_core.judging.statistics import wilson

    def pooled(kind: str) -> tuple[int, int]:
        found = rates[kind].values()
        return sum(r["hits"] for r in found), sum(r["n"] for r in found)

    worst = min(rates["objects"].values(), key=lambda r: r["hits"] / r["n"])
    counts = json.loads((ROOT / "demo" / "judge.json").read_text())
    right = min(counts["objects_right"], counts["styles_right"])
    made = {}
    for name, target, (hits, n) in (
        ("object_hit_mean", ">= 0.85", pooled("objects")),
        ("object_hit_worst", ">= 0.70", (worst["hits"], worst["n"])),
        ("style_hit_mean", ">= 0.85", pooled("styles")),
        ("judge_accuracy", ">= 0.97", (right, counts["n"])),
    ):
        made[name] = Figure(hits / n, target, n=n, interval=wilson(hits, n), unit="rate")
    size = sum(p.stat().st_size for p in MODEL.glob("*") if "flow" not in p.name)
    made["model_bytes"] = Figure(size, "<= 31457280", unit="bytes")
    return made


if __name__ == "__main__":
    sys.exit(main())
