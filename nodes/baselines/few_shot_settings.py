"""The widgets of Few-shot Unlearning and of applying its vectors, in their frozen order."""

from __future__ import annotations

from ..shared.widgets import Widgets, choice, number, seed, switch, text, whole
from .published import size_widgets

FEW_SHOT_SETTINGS: Widgets = {
    "concept": text("", "The concept's name, as prompts say it. Empty: the concept set's."),
    "sentences": choice(
        ["object", "style"],
        "What the concept is: captions of an object, or of a style.",
        default="object",
    ),
    "captions": text(
        "",
        "Captions of your own, one a line; {} stands for the concept's name. One is drawn for each "
        "picture at each step. Empty: those of `sentences`.",
        multiline=True,
    ),
    "epochs": whole(
        4,
        (1, 10000),
        "Passes over the pictures. Each goes further away, without an end: too many spoil every "
        "prompt.",
    ),
    "batch_size": whole(2, (1, 1024), "Pictures a step."),
    "learning_rate": number(
        1e-5,
        (1e-8, 1.0, 1e-6),
        "1e-5 for full-size models (the paper), 2e-3 for the demo model.",
        round=False,
    ),
    "seed": seed("Same seed, same edit."),
    "pictures": whole(
        4,
        (0, 4096),
        "How many of the set's pictures are used, the first ones. 0: all. Without `concept_set`: "
        "how many latents of noise stand in for them, 0 for a batch of them.",
        advanced=True,
    ),
    "every_epoch": switch(
        False,
        "Keep a vector of each epoch for the second output, to choose among them. Each takes as "
        "much memory as the edit.",
        advanced=True,
    ),
    **size_widgets(),
}

CLIP_STRENGTH: Widgets = {
    "strength": number(
        1.0,
        (0.0, 100.0, 0.01),
        "How much is subtracted. 0 changes nothing, 1 is the method's own edit.",
    ),
    "other_weights": choice(
        ["refuse", "allow"],
        "What to do when the CLIP has the right architecture but other weights than "
        "the vector was made from, for example a merge.",
        default="refuse",
        advanced=True,
    ),
}
