"""The widgets of Concept Inversion Attack, in their frozen order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...tverase_core.inversion.config import RANDOM, InversionConfig
from ...tverase_core.sentences import SENTENCES
from ..shared.kept_work import RESUMABLE
from ..shared.widgets import Widgets, choice, number, seed, text, whole

RATE_PER_PICTURE = 5e-3  # of arXiv 2308.01508's code, which multiplies it by the pictures a step
DECAY = 0.01  # AdamW's own default, which that code leaves as it is


@dataclass(frozen=True, slots=True)
class Budget:
    """Optimizer steps of an attack, and pictures that it sees in each."""

    steps: int
    pictures: int


BUDGETS = {
    "quick": Budget(300, 4),
    "standard": Budget(3000, 8),
    "as published": Budget(5000, 16),
}

ATTACK_SETTINGS: Widgets = {
    "budget": choice(
        list(BUDGETS),
        "How hard each attack tries. quick: 300 steps of 4 pictures, to see whether all is set up "
        "well; standard: 3,000 of 8; as published: 5,000 of 16. Only long attacks say that an "
        "erasure holds.",
        default="standard",
    ),
    "attacks": whole(3, (1, 64), "Independent attacks, each from a start of its own."),
    "start": text(
        "object",
        "The word that attacks start from: a coarse word of one token, such as 'object', 'art' or "
        "'person'. Empty: random words of the vocabulary.",
    ),
    "sentences": choice(
        list(SENTENCES),
        "What the concept is: the sentences that an embedding is shown in, one drawn for each "
        "picture at each step.",
        default="object",
    ),
    "template": text(
        "a {}", "The sentence that an attack is judged in, with one {} and no brackets."
    ),
    "prompt": text(
        "",
        "Plain prompt that draws the concept on the base. Empty: the template with the concept's "
        "name.",
    ),
    "seed": seed("Same seed, same attacks."),
    "checks": whole(
        16,
        (1, 1024),
        "Pictures that each attack is judged on, the same seeds on both models. More make the "
        "interval narrower.",
    ),
    "vectors": whole(
        1, (1, 32), "Token vectors an embedding. More make an attack stronger.", advanced=True
    ),
    "steps": whole(
        0, (0, 100000), "Optimizer steps instead of the budget's. 0: its own.", advanced=True
    ),
    "pictures_per_step": whole(
        0, (0, 1024), "Pictures a step instead of the budget's. 0: its own.", advanced=True
    ),
    "learning_rate": number(
        0.0,
        (0.0, 10.0, 1e-3),
        "Constant. 0: the published rule, 0.005 for each picture of a step, which is 0.08 for 16.",
        round=False,
        advanced=True,
    ),
    "at_once": whole(
        4,
        (1, 1024),
        "Pictures that go through the model together in training. Lower it when memory runs out. "
        "Same result up to rounding.",
        advanced=True,
    ),
    **RESUMABLE,
}


def attack_config(widgets: Mapping[str, Any]) -> InversionConfig:
    """The widgets as settings of the engine. Raises ConfigError."""
    budget, at_once = BUDGETS[widgets["budget"]], widgets["at_once"]
    batch = widgets["pictures_per_step"] or budget.pictures
    return InversionConfig(
        count=widgets["attacks"],
        vectors=widgets["vectors"],
        steps=widgets["steps"] or budget.steps,
        learning_rate=widgets["learning_rate"] or RATE_PER_PICTURE * batch,
        batch=batch,
        seed=widgets["seed"],
        diversity=0.0,
        template=widgets["template"],
        start=widgets["start"].strip() or RANDOM,
        sentences=SENTENCES[widgets["sentences"]],
        weight_decay=DECAY,
        chunk=max(1, at_once // batch),
        draws_at_once=min(batch, at_once),
    )
