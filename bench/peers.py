"""Beside what others use for the same: `python dev.py bench peers [--only PART] [--tiny]`.

Makes `.host/installs/peers` with diffusers, peft and transformers (about 1.3 GB, a network is
needed). Random weights of SD1.5's true size in float16, equal latents, texts, pictures a step and
threads for all, float32 arithmetic; each contender in a process of its own, one after the other.
Writes bench/results/peers.json. Its parts, of which --only runs some and takes the others' figures
from the last run:

    same       whether diffusers and ComfyUI compute the same from these weights
    whole      Concept Fine-tune on all weights, beside a plain loop with the settings of diffusers'
               script train_text_to_image.py
    rank16     of rank 16, beside the LoRA script's and ComfyUI's Train LoRA; on the projections of
               attention, which the script trains, and on every matrix, which Train LoRA does
    inversion  Diverse Inversion of 16, beside 16 runs of the loop of textual_inversion.py; 1 thread
    drawing    an erased model, in patch mode, beside the unedited one; three processes, whose
               allocator keeps what is freed
    drawing_default  the same with glibc's allocator as it is

A step's time is a median after one that warms up. Memory is the most that the process held at once
in those steps (its resident set: weights, gradients, moments, activations and loaded libraries).
No setting asks for recomputed blocks; our node takes to it where its estimate does not fit, which
the file tells. All hold the base in float32: the loops since AdamW moves it, ComfyUI since it loads
so on a CPU. `lean` is our node by what needs least memory: 8-bit moments, recomputed blocks, a
fused backward pass, and the base in the float16 of its file, as ComfyUI holds it on GPUs and, on a
CPU, with --fp16-unet. Its ratios are to the plain loop; those of `both_lean` to that loop with the
script's --use_8bit_adam and --gradient_checkpointing. --tiny is for trials and tests, and writes
where --result says.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# At the end: ahead, the pack's `nodes` would hide ComfyUI's.
sys.path.append(str(ROOT))

import torch  # noqa: E402 - after the path

from bench.peers_parts import summary  # noqa: E402 - after the path
from bench.peers_parts.running import KEEP, Runner  # noqa: E402 - after the path
from bench.peers_parts.sizes import SIZES, Size  # noqa: E402 - after the path
from devtools import bare_host  # noqa: E402 - after the path
from devtools.figures import (  # noqa: E402
    Figure,
    figures_document,
    figures_table,
    read_figures,
    write_figures,
)
from devtools.install import SetupError  # noqa: E402
from devtools.machine import cpu_name  # noqa: E402

RESULT = ROOT / "bench" / "results" / "peers.json"
TOOLS = """torch==2.13.0
numpy==2.4.6
safetensors==0.8.0
diffusers==0.42.1
peft==0.21.2
transformers==5.24.0
accelerate==1.15.0
bitsandbytes==0.50.2
"""
Figures = dict[str, Figure]
RANK16 = [name for names in summary.RANK16.values() for name in names]
SAME = ("by_tverase.prediction", "by_diffusers.prediction")
INVERSION = ("by_tverase.inversion", "by_diffusers.inversion")


@dataclass(frozen=True)
class Part:
    """figures: what is made of the contenders' reports. threads: 0 for as many as asked. memory:
    what their allocator is told."""

    contenders: Sequence[str]
    figures: Callable[[summary.Reports, Size], Figures]
    threads: int = 0
    memory: Mapping[str, str] = field(default_factory=dict)


PARTS: Mapping[str, Part] = {
    "same": Part(SAME, lambda reports, _: summary.same_figures(reports)),
    "whole": Part(
        [*summary.WHOLE, *summary.LEAN], lambda reports, _: summary.whole_figures(reports)
    ),
    "rank16": Part(RANK16, lambda reports, _: summary.rank16_figures(reports)),
    "inversion": Part(
        INVERSION,
        lambda reports, size: summary.inversion_figures(reports, size.embeddings),
        threads=1,
    ),
    "drawing": Part(
        summary.DRAWING, lambda reports, _: summary.drawing_figures(reports), memory=KEEP
    ),
    "drawing_default": Part(
        summary.DRAWING, lambda reports, _: summary.default_drawing_figures(reports)
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--result", type=Path)
    parser.add_argument("--timed", type=int, default=3, help="steps that count, each (3)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="(all cores)")
    options = parser.parse_args()
    result = options.result or (None if options.tiny else RESULT)
    document = document_of(options)
    if result is not None and result.exists():
        known = read_figures(result)
        document["figures"] = known["figures"]
        document |= {part: known[part] for part in PARTS if part in known}
    try:
        for part, figures, report in measured(options):
            document["figures"] |= {name: figure.to_dict() for name, figure in figures.items()}
            document[part] = report
            if result is not None:
                write_figures(result, document)
    except SetupError as problem:
        print(f"\nbench peers: {problem}", file=sys.stderr)
        return 1
    print(figures_table(document))
    return 0


def measured(options: argparse.Namespace) -> Iterator[tuple[str, Figures, dict[str, Any]]]:
    """Of each chosen part its figures and what the contenders reported, as soon as it is there."""
    names = [name for part in options.only for name in PARTS[part].contenders]
    peers = any(name.startswith("by_diffusers.") for name in names)
    python = bare_host.environment("peers", TOOLS, "1.3 GB") if peers else None
    size = "tiny" if options.tiny else "true"
    place = ROOT / ".host" / "work"
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="peers-", dir=place) as folder:
        comfyui, material = options.comfyui.resolve(), Path(folder)
        runner = Runner(python, comfyui, material, size, options.threads, options.timed)
        runner.run("make.make")
        for name in options.only:
            part, reports = PARTS[name], {}
            for contender in part.contenders:
                print(f"{name}: {contender}", flush=True)
                reports[contender] = runner.run(contender, part.threads, part.memory)
            told = {} if name == "same" else reports
            ran = {"date": today(), "threads": part.threads or options.threads}
            yield name, part.figures(reports, SIZES[size]), {**ran, **told}


def document_of(options: argparse.Namespace) -> dict[str, Any]:
    """The file without figures."""
    size = SIZES["tiny" if options.tiny else "true"]
    environment = {
        "cpu": cpu_name(),
        "torch": torch.__version__,
        "host": options.comfyui.name,
        **dict(line.split("==") for line in TOOLS.split() if "torch" not in line),
        "fine-tunes": f"{size.pictures} pictures a step, latents {size.side}x{size.side}",
        "inversions": f"{size.each} pictures an embedding and step, latents "
        f"{size.inversion_side}x{size.inversion_side}",
    }
    return figures_document("peers", "python dev.py bench peers", today(), environment, {})


def today() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%d")


if __name__ == "__main__":
    sys.exit(main())
