"""The widgets of Diverse Inversion, in their frozen order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...tverase_core.inversion.config import RANDOM, InversionConfig, paper_intervals
from ..shared.kept_work import RESUMABLE
from ..shared.widgets import Widgets, choice, number, seed, text, whole

SPREADS = ("apart", "near to far")

SETTINGS: Widgets = {
    "prompt": text(
        "",
        "Plain prompt that draws the concept, for the check of the judge. Empty: "
        "the template with the concept's name.",
    ),
    "count": whole(
        10,
        (1, 256),
        "How many different embeddings to find. Half of them choose the strength, "
        "half verify it, so give 10 or more.",
    ),
    "steps": whole(500, (1, 100000), "Optimizer steps, all in one batch."),
    "learning_rate": number(
        5e-3,
        (1e-6, 10.0, 1e-4),
        "5e-3 for full-size models, 5e-2 for the demo model. Falls to a tenth.",
        round=False,
    ),
    "batch": whole(2, (1, 256), "Pictures each embedding sees in a step."),
    "seed": seed("Same seed, same embeddings."),
    "spread": choice(
        list(SPREADS),
        "'apart' pushes the embeddings away from one another. 'near to far' also "
        "holds each in its own band of similarity to the concept's word (our reading of the "
        "paper's figure 1).",
        default="apart",
    ),
    "vectors": whole(
        1, (1, 32), "Token vectors an embedding. More find the concept more easily.", advanced=True
    ),
    "diversity": number(
        0.1,
        (0.0, 100.0, 0.01),
        "How hard embeddings push one another away. 0 is not at all.",
        advanced=True,
    ),
    "cosine_cap": number(
        0.2, (-1.0, 1.0, 0.01), "Pairs less alike than this (cosine) do not push.", advanced=True
    ),
    "template": text(
        "a {}", "The sentence around an embedding, with one {} and no brackets.", advanced=True
    ),
    "start": text(
        "", "A word to start from. Empty: random words of the vocabulary.", advanced=True
    ),
    "checks": whole(
        8,
        (1, 256),
        "Pictures that each embedding draws; the judge must fire on half of them.",
        advanced=True,
    ),
    "restarts": whole(
        1, (0, 10), "How often embeddings that fail the check start anew.", advanced=True
    ),
    "at_once": whole(
        0,
        (0, 256),
        "Embeddings held in memory at once. 0 is all; lower it when memory runs "
        "out. Same result up to rounding.",
        advanced=True,
    ),
    **RESUMABLE,
}

BOUNDS: Widgets = {
    "cosine_floor": number(
        -1.0,
        (-1.0, 1.0, 0.01),
        "Pairs less alike than this (cosine) pull one another; `diversity` says how hard. -1 is "
        "never. With `cosine_cap`, the interval of cosines among the embeddings.",
        advanced=True,
    ),
    "word_low": number(
        -1.0,
        (-1.0, 1.0, 0.01),
        "Least cosine of an embedding to the concept's word, where `spread` is 'apart'.",
        advanced=True,
    ),
    "word_high": number(
        1.0,
        (-1.0, 1.0, 0.01),
        "Largest cosine of an embedding to the concept's word, where `spread` is 'apart'.",
        advanced=True,
    ),
}


def inversion_config(widgets: Mapping[str, Any]) -> InversionConfig:
    """The widgets as settings of the engine. Raises ConfigError."""
    count = widgets["count"]
    return InversionConfig(
        count=count,
        vectors=widgets["vectors"],
        steps=widgets["steps"],
        learning_rate=widgets["learning_rate"],
        final_rate=0.1,
        batch=widgets["batch"],
        seed=widgets["seed"],
        diversity=widgets["diversity"],
        cosine_cap=widgets["cosine_cap"],
        intervals=_intervals(widgets),
        template=widgets["template"],
        start=widgets["start"].strip() or RANDOM,
        chunk=widgets["at_once"] or None,
        cosine_floor=widgets.get("cosine_floor", -1.0),
    )


def _intervals(widgets: Mapping[str, Any]) -> tuple[tuple[float, float], ...] | None:
    """The cosines to the concept's word that each embedding may have; None for any."""
    count, bands = widgets["count"], paper_intervals()
    if widgets["spread"] == SPREADS[1]:
        return tuple(bands[k % len(bands)] for k in range(count))
    bounds = widgets.get("word_low", -1.0), widgets.get("word_high", 1.0)
    return None if bounds == (-1.0, 1.0) else (bounds,) * count
