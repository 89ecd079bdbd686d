"""The widgets of STEREO, in their frozen order; named as the settings of the core are."""

from __future__ import annotations

from ...tverase_core.sentences import SENTENCES
from ..shared.widgets import Widget, Widgets, choice, number, seed, text, whole
from .esd_settings import variant_widget

ANCHORS = (
    "a cat on a beach",
    "a cat in a kitchen",
    "a cat under a tree",
    "a cat in the snow",
    "a cat beside a car",
    "a cat on a red sofa",
    "a cat in front of a mountain",
    "a cat in a crowded street",
)
DRAWN, NOISED = "drawn", "noised pictures"


def _steps(default: int, tooltip: str) -> Widget:
    return whole(default, (1, 100000), tooltip)


def _rate(default: float, top: float, step: float, tooltip: str) -> Widget:
    return number(default, (1e-8, top, step), tooltip, round=False)


def _weight(default: float, least: float, tooltip: str) -> Widget:
    return number(default, (least, 100.0, 0.05), tooltip, advanced=True)


STEREO_SETTINGS: Widgets = {
    "prompts": text("a cat", "Prompts of the concept, one a line. All are erased.", multiline=True),
    "anchors": text(
        "\n".join(ANCHORS),
        "Sentences that contain the concept in a scene, one a line. The scene "
        "around it is what the edit keeps.",
        multiline=True,
    ),
    "rounds": whole(
        4,
        (1, 32),
        "How often to erase and attack. Each round attacks with pictures of its own.",
    ),
    "erase_steps": _steps(200, "Optimizer steps of each round's erasing."),
    "erase_learning_rate": _rate(
        5e-6, 1.0, 1e-6, "5e-6 for full-size models, 1e-4 for the demo model."
    ),
    "attack_steps": _steps(3000, "Optimizer steps of each round's attack: most of the time."),
    "attack_learning_rate": _rate(
        5e-3, 10.0, 1e-4, "5e-3 for full-size models, 5e-2 for the demo model."
    ),
    "final_steps": _steps(200, "Optimizer steps of the last erasing, from the unedited weights."),
    "final_learning_rate": _rate(
        2e-5, 1.0, 1e-6, "2e-5 for full-size models, 1e-4 for the demo model."
    ),
    "batch_size": whole(1, (1, 1024), "Samples a step, also of the attacks."),
    "seed": seed("Same seed, same edit."),
    "start": text(
        "object",
        "The word that attacks start from: a coarse word of one token, such as 'object', 'art' or "
        "'person'. Empty: a random word of the vocabulary.",
    ),
    "sentences": choice(
        list(SENTENCES),
        "What the concept is: the sentences that an attack's embedding is shown in, one drawn for "
        "each picture at each step.",
        default="object",
    ),
    "samples": choice(
        [DRAWN, NOISED],
        "Where erasing takes its noisy samples from. drawn: the model in training draws them at "
        "guidance 3, as in the authors' code; noised pictures: noise is added to `concept_set`, "
        "which is many times quicker.",
        default=DRAWN,
    ),
    "variant": variant_widget(advanced=True),
    "eta": _weight(
        1.0, 0.01, "How far the first stage steers; 1 ends where the empty prompt's picture does."
    ),
    "anchor_weight": _weight(1.0, 0.0, "How hard the anchors pull."),
    "negative_weight": _weight(
        3.0,
        0.01,
        "How hard to push away from the prompts and from what the attacks found. 3 is what the "
        "released code computes; its comment reads as if 1 were meant.",
    ),
    "attacks_used": whole(
        4, (0, 32), "How many of the attacks' findings the last erasing takes.", advanced=True
    ),
    "template": text(
        "{}",
        "The sentence around what an attack finds when it is erased, with one {} and no brackets.",
        advanced=True,
    ),
}
