"""How the strength depends on the drawing, which parts of the network carry the effect, and what a
few-step distillate makes of it."""

from __future__ import annotations

from typing import Any

from bench.erasure.mask_job import share
from bench.erasure.vectors import deltas_of
from bench.flow_parts.distilling import distillate, distilling
from bench.flow_parts.kept import WORK
from bench.flow_parts.shared import COUNTED, Bench

EDIT = "tv"
DRAWN = {
    **{f"cfg_{cfg:g}": (cfg, 1.0) for cfg in (1.0, 2.0, 5.0, 8.0)},
    **{f"shift_{shift:g}": (5.0, shift) for shift in (3.0, 6.0)},
}
PARTS = {
    "attention": "attention",
    "feed_forward": "feed_forward",
    "modulation": "/adaLN_modulation/",
    "refiner": "context_refiner.*, noise_refiner.*",
    "first_half": "layers.0, layers.1, layers.2",
    "second_half": "layers.3, layers.4, layers.5",
}


def drawn_otherwise(bench: Bench) -> dict[str, Any]:
    """The least strength of the graph's vector at other CFG values and shifts of the sampler."""
    from comfy_extras.nodes_model_advanced import ModelSamplingAuraFlow

    deltas = deltas_of(bench.job, bench.vector(EDIT)[0])
    found = {}
    for name, (cfg, shift) in DRAWN.items():
        model = ModelSamplingAuraFlow().patch_aura(bench.job.model, shift)[0]
        with bench.battery(model, cfg=cfg) as battery:
            base = battery.under(deltas, 0.0, ("tuning", *COUNTED))
            found[name] = {**bench.least(battery, deltas), "base": base}
        print(name, found[name]["strength"], flush=True)
    return {"drawn": found}


def parts(bench: Bench) -> dict[str, Any]:
    """Each part alone, and all but it, at the whole vector's strength; attention also at the least
    strength at which it erases by itself."""
    from tverase_pack.nodes.host.model.weights import layout_of
    from tverase_pack.tverase_core.model.mask_text import parse_mask

    vector, found = bench.vector(EDIT)
    whole, blocks = deltas_of(bench.job, vector), layout_of(bench.job.model).blocks()
    counted: dict[str, Any] = {"whole": found["counts"]}
    weights = {}
    with bench.battery() as battery:
        for name, text in PARTS.items():
            alone = deltas_of(bench.job, vector, parse_mask(text, blocks))
            rest = {key: delta for key, delta in whole.items() if key not in alone}
            weights[name] = {"weights": share(alone, whole), "length": length(alone, whole)}
            for label, deltas in ((f"only_{name}", alone), (f"without_{name}", rest)):
                counted[label] = battery.under(deltas, found["strength"], COUNTED)
            if name == "attention":
                weights[name] |= {"least": bench.least(battery, alone)}
            print(name, weights[name], flush=True)
    return {"strength": found["strength"], "counts": counted, "parts": weights}


def few_step(bench: Bench) -> dict[str, Any]:
    """The graph's vector on the base's own few-step distillate: unedited, at the strength that the
    base needs, and at the least one that erases there."""
    vector, found = bench.vector(EDIT)
    settings, deltas = distilling(bench.settings), deltas_of(bench.job, vector)
    student = distillate(WORK, settings)
    with bench.battery(student, cfg=1.0, steps=settings.steps) as battery:
        base = battery.under(deltas, 0.0, ("tuning", *COUNTED))
        same = battery.under(deltas, found["strength"], ("tuning", *COUNTED))
        least = bench.least(battery, deltas)
    return {"strength": found["strength"], "base": base, "counts": same, "least": least}


def length(deltas: Any, whole: Any) -> float:
    """Share of the whole vector's squared length."""
    squares = [sum(float(d.square().sum()) for d in ds.values()) for ds in (deltas, whole)]
    return squares[0] / squares[1]
