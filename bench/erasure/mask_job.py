"""One concept, one seed: parts of two task vectors, each at the least strength that erases.

Run by bench/masks.py in a process of its own; writes one JSON file.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))

import torch  # noqa: E402 - after the path

from bench.erasure.arithmetic import in_float32  # noqa: E402 - after the path
from bench.erasure.automatic import Job, inversions, learned, learned_pictures  # noqa: E402
from bench.erasure.battery import Battery  # noqa: E402
from bench.erasure.concepts import CONCEPTS  # noqa: E402
from bench.erasure.vectors import deltas_of, split  # noqa: E402

STEP, MOST = 0.1, 4.0  # of the strengths that are tried
ALLOWED = 0.03  # share of the tuning pictures that may still show the concept
DRAWS = (8, 16, 24)  # of each tuning trigger, held-out trigger and retained prompt
PAPER = json.loads((ROOT / "workflows" / "api" / "erase_concept.json").read_text())
PARTS = {
    "attention": {"kinds": ("self_attn", "cross_attn")},
    "attention and ff": {"kinds": ("self_attn", "cross_attn", "ff", "norm", "proj")},
    "middle and output": {"kinds": (), "outer": ("M", "OUT")},
}
RANKS = (4, 16)
VECTORS = ("retained", "paper")
# Of Auto Block Mask: compared at about the strength that Auto-Strength chooses on the demo model.
RANKED = {"strength": 1.0, "probes": 8, "most_triggers": 4, "other_weights": "refuse"}
DRAWN = ("sampling_steps", "cfg", "width", "height", "sampler_name", "scheduler")


def measure(job: Job, vectors: Sequence[str]) -> dict[str, Any]:
    from tverase_pack.nodes.host.drawing.studio import open_studio
    from tverase_pack.nodes.shared.drawing_settings import drawing_of

    pictures, retained = job.timed("learn", lambda: learned(job))
    found = split(job.timed("invert", lambda: inversions(job, pictures)), job.seed)
    whole = deltas_of(job, retained)
    edits = {}
    if "retained" in vectors:
        edits["retained"] = dict(parts_of(job, retained, pictures, found[0]))
    if "paper" in vectors:
        plain_set, paper = job.timed("learn as in the paper", lambda: learned_plainly(job))
        edits["paper"] = dict(parts_of(job, paper, plain_set, found[0]))
    drawing = drawing_of(job.settings("TVEraseAutoStrength"))
    result: dict[str, Any] = {"concept": job.concept.name, "seed": job.seed, "parts": {}}
    with open_studio(job.model, job.clip, job.vae, drawing, purpose="bench masks") as studio:
        battery = battery_of(job, studio, found)
        result["base"] = battery.under(whole, 0.0, ["held_out", "retained"])
        for vector, parts in edits.items():
            for part, deltas in parts.items():
                name = f"{vector}: {part}"
                at = job.timed(name, lambda d=deltas: erased_at(battery, d))
                print(name, {k: v for k, v in at.items() if k != "counts"}, flush=True)
                result["parts"][name] = {**at, "weights": share(deltas, whole)}
    return result


@in_float32()
def learned_plainly(job: Job) -> tuple[Any, Any]:
    """(concept set, task vector) as in arXiv 2404.03631: empty captions, nothing retained."""
    widgets = {node["class_type"]: dict(node["inputs"]) for node in PAPER.values()}
    job = with_widgets(job, "TVEraseConceptFinetune", widgets["TVEraseConceptFinetune"])
    pictures = learned_pictures(job, caption="", caption_share=1.0, contrast="")
    made = job.nodes["TVEraseConceptFinetune"]().tune(
        job.model, pictures, **job.settings("TVEraseConceptFinetune")
    )
    return pictures, made["result"][2]


def with_widgets(job: Job, kind: str, inputs: dict[str, Any]) -> Job:
    """The job, from here on with another graph's widgets for one node type."""
    job.widgets[kind] = {k: v for k, v in inputs.items() if not isinstance(v, list)}
    return job


def parts_of(job: Job, vector: Any, pictures: Any, tuning: Any) -> Iterator[tuple[str, Any]]:
    """(name, mask * delta by key), the whole vector first."""
    from tverase_pack.nodes.host.model.weights import layout_of
    from tverase_pack.tverase_core.model.block_mask import BlockMask

    yield "whole", deltas_of(job, vector)
    for fraction, by_kind in ((0.8, False), (0.6, False), (0.8, True)):
        mask = measured_mask(job, vector, pictures, tuning, fraction=fraction, by_kind=by_kind)
        label = f"measured {fraction:.0%} by {'block and kind' if by_kind else 'block'}"
        yield label, deltas_of(job, vector, mask)
    blocks = layout_of(job.model).blocks()
    for label, part in PARTS.items():
        outer = [b for b in blocks if b.startswith(tuple(part.get("outer", ())))]
        mask = BlockMask.only(blocks=outer if part.get("outer") else (), kinds=part["kinds"])
        yield label, deltas_of(job, vector, mask)
    for rank in RANKS:
        yield f"rank {rank}", deltas_of(job, of_rank(vector, rank))


def of_rank(vector: Any, rank: int) -> Any:
    """The vector with every matrix cut to its largest `rank` singular values."""

    def cut(delta: torch.Tensor) -> torch.Tensor:
        if delta.ndim < 2:
            return delta
        u, s, v = torch.linalg.svd(delta.flatten(1).double(), full_matrices=False)
        return (u[:, :rank] * s[:rank] @ v[:rank]).float().reshape(delta.shape)

    return vector.changed({key: cut(d) for key, d in vector.deltas.items()}, f"rank {rank}")


def measured_mask(job: Job, vector: Any, pictures: Any, found: Any, **asked: Any) -> Any:
    """The block mask that Auto Block Mask chooses, drawing as Auto-Strength does."""
    strength = job.settings("TVEraseAutoStrength")
    return job.nodes["TVEraseAutoBlockMask"]().rank(
        job.model,
        job.clip,
        vector,
        pictures,
        found,
        retained="\n".join(f"{prompt} | {name}" for prompt, name in job.concept.tuning),
        **{name: strength[name] for name in ("seed", "pictures_at_once", *DRAWN)},
        **RANKED,
        **asked,
    )["result"][0]


def battery_of(
    job: Job, studio: Any, found: tuple[Any, Any], draws: tuple[int, int, int] = DRAWS
) -> Battery:
    """What tunes and what is reported: other triggers, prompts and seeds."""
    from tverase_pack.tverase_core.ports import joined

    concept, encode = job.concept, studio.encoder.encode
    tuning = joined(encode([concept.plain]), found[0].contexts(studio.encoder))
    held_out = joined(encode(list(concept.paraphrases)), found[1].contexts(studio.encoder))
    prompts, names = zip(*concept.reported, strict=True)
    groups = {
        "tuning": (tuning, [concept.name] * len(tuning.tokens), draws[0]),
        "held_out": (held_out, [concept.name] * len(held_out.tokens), draws[1]),
        "retained": (encode(list(prompts)), list(names), draws[2]),
    }
    return Battery(studio, job.judge, groups, 8_000_000 + 100_000 * job.seed)


def erased_at(battery: Battery, deltas: Any, most: float = MOST) -> dict[str, Any]:
    """The least strength that erases the tuning triggers, found by halving, and what it does.

    reached: whether the largest strength erases at all; if not, it is the one that is reported.
    """
    low, high = 0, round(most / STEP)
    reached = erases(battery, deltas, high * STEP)
    while reached and high - low > 1:
        middle = (low + high) // 2
        if erases(battery, deltas, middle * STEP):
            high = middle
        else:
            low = middle
    strength = high * STEP
    counts = battery.under(deltas, strength, ["held_out", "retained"])
    return {"strength": strength, "reached": reached, "counts": counts}


def erases(battery: Battery, deltas: Any, strength: float) -> bool:
    cells = battery.under(deltas, strength, ["tuning"])["tuning"]
    return sum(hits for hits, _ in cells) <= ALLOWED * sum(count for _, count in cells)


def share(deltas: Any, whole: Any) -> float:
    """Weights that are edited, as a share of those that the whole vector edits."""
    return sum(d.numel() for d in deltas.values()) / sum(d.numel() for d in whole.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True)
    parser.add_argument("--concept", choices=sorted(CONCEPTS), required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--vectors", nargs="+", choices=VECTORS, default=VECTORS)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    job = Job(options.comfyui, CONCEPTS[options.concept], options.seed)
    with torch.inference_mode():
        result = measure(job, options.vectors)
    options.output.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
