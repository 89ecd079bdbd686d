"""The widgets of the baselines, in their frozen order."""

from __future__ import annotations

from ..shared.widgets import Widgets, choice, number, seed, text, whole

ESD_SETTINGS: Widgets = {
    "prompts": text(
        "a cat", "Prompts of the concept, one a line; one is drawn at each step.", multiline=True
    ),
    "variant": choice(
        ["x", "u"], "x trains the cross-attention layers, u all the others.", default="x"
    ),
    "steps": whole(200, (1, 100000), "Optimizer steps."),
    "learning_rate": number(
        5e-5,
        (1e-8, 1.0, 1e-6),
        "5e-5 for full-size models, larger for the demo model.",
        round=False,
    ),
    "batch_size": whole(1, (1, 1024), "Samples a step."),
    "seed": seed("Same seed, same edit."),
    "eta": number(
        1.0, (0.01, 100.0, 0.05), "How far away from the concept to steer.", advanced=True
    ),
    "anchor": choice(
        ["null", "concept"],
        "Where the target starts from: the empty prompt (paper), or the concept "
        "(the authors' later code, with eta 2).",
        default="null",
        advanced=True,
    ),
}

UCE_SETTINGS: Widgets = {
    "concepts": text("cat", "Names to erase, one a line.", multiline=True),
    "guide": text("", "What the concept shall act like, such as 'animal'. Empty: like no prompt."),
    "preserve": text("", "Names that must stay as they are, one a line.", multiline=True),
    "keep": number(
        0.5,
        (1e-4, 1000.0, 0.05),
        "Pull of every weight towards its old value. Smaller erases more.",
        advanced=True,
    ),
    "preserve_weight": number(
        1.0,
        (0.0, 1000.0, 0.05),
        "Weight of the preserved names against the erased ones.",
        advanced=True,
    ),
}
