"""The widgets of Auto Block Mask, in their frozen order."""

from __future__ import annotations

from ..shared.retained_prompts import RETAINED
from ..shared.widgets import Widgets, number, seed, switch, whole

SETTINGS: Widgets = {
    "retained": RETAINED,
    "by_kind": switch(False, "Rank each kind of layer in each block by itself: finer, slower."),
    "seed": seed("Seed of the noise that is measured with, and of the retained pictures."),
    "fraction": number(
        0.8,
        (0.05, 1.0, 0.05),
        "The fewest blocks are kept that reach this share of the whole vector's erasure.",
        advanced=True,
    ),
    "strength": number(
        1.0, (0.01, 100.0, 0.05), "Strength at which blocks are compared.", advanced=True
    ),
    "probes": whole(
        16, (1, 1024), "Noised pictures a measure. More is surer and slower.", advanced=True
    ),
    "most_triggers": whole(
        4, (1, 256), "Embeddings of the set that are measured with.", advanced=True
    ),
}
