"""The demo: erase a concept in a running ComfyUI over HTTP, then count what is left of it.

Called by `python dev.py demo`. The graph is workflows/api/erase_concept_auto.json, where mask and
strength are measured and no number is typed; `--workflow erase_concept` takes the strength that a
person chose. Every picture is drawn by the server's stock KSampler, and the judge only looks at the
saved PNG files.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path += [str(HERE), str(ROOT)]

import numpy as np  # noqa: E402 - after the path
import torch  # noqa: E402
from judge_network import load_demo_judge  # noqa: E402
from PIL import Image, ImageDraw, ImageFont  # noqa: E402

from devtools.api_graph import API_GRAPHS, node_of, read_graph, sampling_of  # noqa: E402
from devtools.client import Client  # noqa: E402
from devtools.figures import Figure, figures_document, figures_table, write_figures  # noqa: E402
from devtools.machine import cpu_name  # noqa: E402
from tverase_core.judging.scoring import ScoreRow  # noqa: E402
from tverase_core.report.document import EraseReport  # noqa: E402

FIRST_SEED = 100_000  # far from the seeds of the concept's own pictures
SHOWN = 8  # pictures a row in the grid


def core_graph(workflow: dict[str, Any]) -> dict[str, Any]:
    """The erasing part of the workflow: our nodes, without its pictures for people."""
    return {
        name: node
        for name, node in workflow.items()
        if node["class_type"].startswith("TVErase")
        and node["class_type"] != "TVEraseBeforeAfterGrid"
    }


def with_pictures(
    graph: dict[str, Any], prompt: str, count: int, sampling: dict[str, Any]
) -> dict[str, Any]:
    """The graph plus `count` pictures of the prompt by the base and by the erased model."""
    demo, erased = node_of(graph, "TVEraseDemoModel"), node_of(graph, "TVEraseApplyNegatedTV")
    added: dict[str, Any] = {
        "p": {"class_type": "CLIPTextEncode", "inputs": {"clip": [demo, 1], "text": prompt}},
        "n": {"class_type": "CLIPTextEncode", "inputs": {"clip": [demo, 1], "text": ""}},
        "e": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": 64, "height": 64, "batch_size": count},
        },
    }
    for tag, model in (("base", [demo, 0]), ("erased", [erased, 0])):
        added[f"k_{tag}"] = {
            "class_type": "KSampler",
            "inputs": {
                "model": model,
                "positive": ["p", 0],
                "negative": ["n", 0],
                "latent_image": ["e", 0],
                "seed": FIRST_SEED,
                "denoise": 1.0,
                **sampling,
            },
        }
        added[f"d_{tag}"] = {
            "class_type": "VAEDecode",
            "inputs": {"samples": [f"k_{tag}", 0], "vae": [demo, 2]},
        }
        added[f"s_{tag}"] = {
            "class_type": "SaveImage",
            "inputs": {"images": [f"d_{tag}", 0], "filename_prefix": f"demo/{tag}"},
        }
    return {**graph, **added}


def fetch(client: Client, outputs: dict[str, Any], tag: str) -> torch.Tensor:
    """The saved pictures, float32 [n, H, W, 3] in 0..1."""
    pictures = [
        np.asarray(Image.open(io.BytesIO(client.view(entry))).convert("RGB"), dtype=np.float32)
        / 255
        for entry in outputs[f"s_{tag}"]["images"]
    ]
    return torch.from_numpy(np.stack(pictures))


def waited(client: Client, prompt: dict[str, Any], label: str) -> dict[str, Any]:
    """Run a prompt on the server and say how long it took."""
    began = time.monotonic()
    print(f"  {label} ...", end="", flush=True)
    outputs = client.run(prompt, timeout_s=1800)
    print(f" {time.monotonic() - began:.1f} s", flush=True)
    return outputs


def score_rows(
    role: str, concept: str, prompt: str, before: torch.Tensor, after: torch.Tensor
) -> Iterator[ScoreRow]:
    """before and after: the judge's scores [n]; row i is picture i of one KSampler batch."""
    for i, (base, erased) in enumerate(zip(before.tolist(), after.tolist(), strict=True)):
        yield ScoreRow(role, concept, prompt, i, base, erased)


def draw_grid(rows: Sequence[tuple[str, torch.Tensor]], path: Path) -> None:
    """One labelled row of pictures each, enlarged so that they can be looked at."""
    size, left, gap = 96, 150, 4
    canvas = Image.new(
        "RGB", (left + SHOWN * (size + gap), len(rows) * (size + gap) + gap), (250, 250, 250)
    )
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(15)
    for r, (label, pictures) in enumerate(rows):
        top = gap + r * (size + gap)
        pen.text((8, top + size // 2 - 10), label, fill=(30, 30, 30), font=font)
        for c, picture in enumerate(pictures[:SHOWN]):
            pixels = (picture.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
            tile = Image.fromarray(pixels).resize((size, size), Image.Resampling.LANCZOS)
            canvas.paste(tile, (left + c * (size + gap), top))
    canvas.save(path)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--count", type=int, default=48, help="pictures of the concept")
    parser.add_argument("--others", type=int, default=12, help="pictures of each other object")
    parser.add_argument(
        "--workflow", choices=("erase_concept_auto", "erase_concept"), default="erase_concept_auto"
    )
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    client = Client(options.server, Path())
    workflow = read_graph(API_GRAPHS / f"{options.workflow}.json")
    graph, sampling = core_graph(workflow), sampling_of(workflow)
    concept = workflow[node_of(workflow, "TVEraseConceptSetFromPrompt")]["inputs"]["concept"]
    judge = load_demo_judge(HERE / "model" / "demo_judge.safetensors")
    others = [name for name in judge.objects if name != concept]
    print(
        f"erasing {concept!r} with {options.workflow}, {options.count} pictures of it, "
        f"{options.others} of each other object"
    )
    chosen: dict[str, Any] = {}
    rows: list[ScoreRow] = []
    shown: list[tuple[str, torch.Tensor]] = []
    for name in [concept, *others]:
        prompt = f"a {name}"
        label = (
            f"learning {concept!r}, erasing it, drawing" if name == concept else f"drawing {prompt}"
        )
        count = options.count if name == concept else options.others
        outputs = waited(client, with_pictures(graph, prompt, count, sampling), label)
        pictures = {tag: fetch(client, outputs, tag) for tag in ("base", "erased")}
        scores = {tag: judge.score(pictures[tag], name) for tag in pictures}
        role = "target" if name == concept else "retained"
        rows += score_rows(role, name, prompt, scores["base"], scores["erased"])
        if name == concept:
            saved = outputs[node_of(graph, "TVEraseSaveTaskVector")]["text"][0]
            chosen = strength_of(graph, outputs)
            print(f"strength {chosen['strength']:g}\n{chosen.get('how it was chosen', '')}")
        if len(shown) < 12:
            shown += [(f"{prompt}\nbefore", pictures["base"]), ("after", pictures["erased"])]
    vector = options.output / f"{concept}.tv.safetensors"
    folder, _, file = saved.rpartition("/")
    vector.write_bytes(client.view({"filename": file, "subfolder": folder, "type": "output"}))
    draw_grid(shown, options.output / "grid.png")
    report = write_report(options.output, concept, rows, vector, client, {**sampling, **chosen})
    seconds = time.monotonic() - began
    figures = demo_figures(report["summary"], seconds)
    document = figures_document(
        "demo",
        "python dev.py demo",
        datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        environment(client),
        figures,
    )
    write_figures(options.output / "figures.json", document)
    print(figures_table(document))
    print(f"look at {options.output.name}/grid.png and {options.output.name}/report.md")
    return 0


def strength_of(graph: dict[str, Any], outputs: dict[str, Any]) -> dict[str, Any]:
    """The strength that was applied, and Auto-Strength's own report where it was measured."""
    given = graph[node_of(graph, "TVEraseApplyNegatedTV")]["inputs"]["strength"]
    if not isinstance(given, list):
        return {"strength": given}
    found = outputs[given[0]]
    return {"strength": found["strength"][0], "how it was chosen": found["text"][0]}


def environment(client: Client) -> dict[str, Any]:
    """What the figures were measured on."""
    system = client.get("/system_stats")["system"]
    return {
        "cpu": cpu_name(),
        "device": "cpu",
        "torch": torch.__version__,
        "host": f"ComfyUI {system.get('comfyui_version', 'unknown')}",
    }


def write_report(
    folder: Path,
    concept: str,
    rows: Sequence[ScoreRow],
    vector: Path,
    client: Client,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """report.json and report.md; returns the document."""
    model = HERE / "model"
    report = EraseReport(
        concept=concept,
        rows=rows,
        inputs={
            name: {"file": path.name, "sha256": sha256(path)}
            for name, path in {
                "base": model / "demo_model.safetensors",
                "judge": model / "demo_judge.safetensors",
                "task_vector": vector,
            }.items()
        },
        settings={"width": 64, "height": 64, "sampler_seed": FIRST_SEED, **settings},
        environment=environment(client),
        pictures=[{"file": "grid.png", "sha256": sha256(folder / "grid.png")}],
        warnings=["The strength was chosen on other seeds than those of this report."],
    )
    (folder / "report.json").write_text(report.to_json(), encoding="utf-8")
    (folder / "report.md").write_text(report.to_markdown(), encoding="utf-8")
    return report.document()


def demo_figures(summary: dict[str, Any], seconds: float) -> dict[str, Figure]:
    """The figures that the demo promises."""
    before, after, kept = (
        summary[name] for name in ("target_before", "target_after", "retained_ratio")
    )
    return {
        "target_hit_before": Figure(
            before["rate"], n=before["n"], interval=tuple(before["interval"]), unit="rate"
        ),
        "target_hit_after": Figure(
            after["rate"], "<= 0.10", n=after["n"], interval=tuple(after["interval"]), unit="rate"
        ),
        "retained_ratio": Figure(
            kept["value"], ">= 0.85", n=kept["n"], interval=tuple(kept["interval"]), unit="ratio"
        ),
        "demo_seconds": Figure(round(seconds, 1), "<= 600", unit="s"),
    }


if __name__ == "__main__":
    sys.exit(main())
