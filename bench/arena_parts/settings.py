"""Every number of the arena, and the table of what each method is tried at.

A stored result counts only with the numbers that it came from (`store.digest`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SEEDS = (1, 2, 3)
CONCEPTS = ("cat", "ink", "car")  # in the order of work; the first of a kind chooses settings
GROUPS = {
    "pets": ("cat", "dog", "bird"),
    "plants": ("flower", "tree", "fruit"),
    "discs": ("clock", "ball", "moon"),
}
# Concepts of several looks, for claims 2 and 3: by name the look that is known, and all of them.
LOOKS = {f"{group}-{known}": (known, looks) for group, looks in GROUPS.items() for known in looks}
LOOKS_CLAIMS = ("strength", "diversity")
EVERY = (*CONCEPTS, *LOOKS)
KINDS = {"cat": "object", "car": "object", "ink": "style", **dict.fromkeys(LOOKS, "object")}
# Close to the concept, asked for in sentences that no training and no tuning has. For a style: the
# same objects without any style, which may come in the erased one too, so the object is judged.
NEAR: Mapping[str, tuple[tuple[str, str], ...]] = {
    "cat": tuple(
        (form.format(o), o)
        for o in ("dog", "bird", "fish")
        for form in ("a drawing of a {}", "a {} in noto style")
    ),
    "car": tuple(
        (form.format(o), o)
        for o in ("house", "clock", "umbrella")
        for form in ("a drawing of a {}", "a {} in noto style")
    ),
    "ink": tuple(
        (f"a drawing of a {o}", o) for o in ("heart", "flower", "fruit", "moon", "umbrella", "book")
    ),
}


@dataclass(frozen=True, slots=True)
class Budget:
    """How much of everything; tests and trials take less.

    pictures, retained_each: of the concept, and of each retained prompt, to learn from. inversions,
    inversion_steps: of Diverse Inversion; half of them tune, half are reported. target, budget,
    strength_step, most_strength, trigger_draws, tuning_draws: Auto-Strength's, the same for every
    method. plain_draws ... retained_draws: pictures a trigger or prompt that are reported.
    attack_steps x attack_batch: views of an attack, which starts from a random word (the demo's
    text encoder never learned coarse ones such as "object"); attack_draws: pictures that it is
    judged on.
    loop_steps: of the attacks inside the candidate `tv_loop`, loop_attacks of them a round.
    """

    sampling_steps: int = 12
    pictures: int = 160
    retained_each: int = 16
    inversions: int = 12
    inversion_steps: int = 150
    target: float = 0.15
    budget: float = 0.95
    strength_step: float = 0.1
    most_strength: float = 6.0
    trigger_draws: int = 24
    tuning_draws: int = 12
    plain_draws: int = 24
    paraphrase_draws: int = 12
    held_out_draws: int = 16
    retained_draws: int = 12
    attack_steps: int = 3000
    attack_batch: int = 8
    attack_draws: int = 32
    loop_steps: int = 400
    loop_attacks: int = 3
    training_share: float = 1.0  # of every training's steps; below 1 for a look at the machinery

    @property
    def views(self) -> int:
        """Pictures that one attack sees."""
        return self.attack_steps * self.attack_batch


TRIAL = Budget(
    sampling_steps=8,
    pictures=8,
    retained_each=1,
    inversions=4,
    inversion_steps=60,
    target=0.6,
    strength_step=1.0,
    most_strength=2.0,
    trigger_draws=4,
    tuning_draws=1,
    plain_draws=2,
    paraphrase_draws=1,
    held_out_draws=2,
    retained_draws=1,
    attack_steps=3,
    attack_batch=2,
    attack_draws=2,
    loop_steps=2,
    loop_attacks=2,
    training_share=0.02,
)

DRAWN = {"width": 64, "height": 64, "sampler_name": "dpmpp_2m", "scheduler": "karras", "cfg": 5.0}
AT_ONCE = 32  # pictures drawn together
INVERTED = {"learning_rate": 5e-2, "batch": 4, "diversity": 0.1, "cosine_cap": 0.2}
FINETUNE = {"accumulation": 1, "flip": False, "ema": False}  # of every recipe, but for its grid
GUIDED_FINETUNE = {  # beside the grid; least_noise is the concept's own
    "batch_size": 16,
    "retained_weight": 1.0,
    "retained_strength": 1.5,
    "rate_schedule": "cosine",
}
SHARED = (DRAWN, INVERTED, FINETUNE, GUIDED_FINETUNE)


@dataclass(frozen=True, slots=True)
class Method:
    """label: in tables. own: a candidate of this project. grid: what the method is tried at, each
    a change of its published defaults at the demo model's size; the first seed of the first
    concept of a kind chooses by the tuning set, all others take its choice.
    A setting's `strength_rounds`: so often the edit is attacked, and the triggers tune its strength
    too; no published method has that."""

    label: str
    grid: tuple[Mapping[str, Any], ...]
    own: bool = False


PACE = {"steps": 200, "batch_size": 1, "sample_steps": 20}  # ESD's, of samples that it draws
NOISED = {"steps": 200, "batch_size": 8, "noised": True}  # of noised pictures
STEREO = {
    "rounds": 2,
    "erase_steps": 100,
    "erase_learning_rate": 1e-4,
    "attack_steps": 300,
    "attack_learning_rate": 5e-2,
    "final_steps": 150,
    "batch_size": 4,
    "samples": "noised pictures",
}
GUIDED = {"steps": 150, "learning_rate": 4e-4, "guidance": 5.0}

METHODS: Mapping[str, Method] = {
    "tv_paper": Method(
        "task vector, the paper's recipe",
        (
            {"steps": 100, "batch_size": 16, "learning_rate": 2e-4},
            {"steps": 200, "batch_size": 16, "learning_rate": 1e-4},
        ),
    ),
    "tv_guided": Method("task vector, guided", (GUIDED, {**GUIDED, "guidance": 3.0})),
    "esd_x": Method(
        "ESD-x",
        (
            {**PACE, "learning_rate": 1e-4},
            {**NOISED, "learning_rate": 2e-4},
        ),
    ),
    "esd_u": Method(
        "ESD-u",
        (
            {**PACE, "learning_rate": 2e-5},
            {**NOISED, "learning_rate": 1e-4},
        ),
    ),
    "uce": Method("UCE", ({}, {"expand": True}, {"form": "2023"})),
    "stereo": Method(
        "STEREO",
        (
            {**STEREO, "final_learning_rate": 1e-4},
            {**STEREO, "final_learning_rate": 5e-5, "variant": "u"},
        ),
    ),
    "concept_prune": Method("ConceptPrune", ({"ratio": 0.02}, {"ratio": 0.05}, {"ratio": 0.1})),
    "few_shot": Method(
        "Few-shot Unlearning",
        (
            {"learning_rate": 2e-3},
            {"learning_rate": 1e-3, "epochs": 8},
        ),
    ),
    "tv_loop": Method(
        "task vector with attacks in the loop",
        ({**GUIDED, "rounds": 2},),
        own=True,
    ),
    "tv_mixed": Method(
        "guided and the paper's vector, mixed",
        ({"share": 0.25}, {"share": 0.5}),
        own=True,
    ),
    "tv_mean": Method("mean of three guided vectors", (GUIDED,), own=True),
    "tv_near": Method("task vector guided to a near neighbour", (GUIDED,), own=True),
    "tv_uce": Method("UCE plus a guided vector", ({"share": 0.5}, {"share": 1.0}), own=True),
    "tv_uce_rounds": Method(
        "UCE plus a guided vector, tuned by attacks too",
        ({"share": 1.0, "strength_rounds": 2},),
        own=True,
    ),
    "tv_uce_mean": Method("UCE plus the mean of three guided vectors", ({"share": 1.0},), own=True),
    "tv_uce_mean_rounds": Method(
        "UCE plus the mean of three guided vectors, tuned by attacks too",
        ({"share": 1.0, "strength_rounds": 2},),
        own=True,
    ),
}
BASE = "base"
BLOCKS = {  # parts of the paper's vector; the first is what the paper edits
    "first three blocks": ("IN00", "IN01", "IN02"),
    "second three blocks": ("IN03", "IN04", "IN05"),
    "all input blocks": ("IN00", "IN01", "IN02", "IN03", "IN04", "IN05"),
    "last three blocks": ("OUT03", "OUT04", "OUT05"),
}
APART = {  # of claim 3's diverse set: to the word less than what is found freely, and apart
    "word_low": -0.3,
    "word_high": 0.15,
    "cosine_floor": -0.2,
    "cosine_cap": 0.2,
    "diversity": 1.0,
}
LABELS = {BASE: "unedited", **{name: method.label for name, method in METHODS.items()}}
PUBLISHED = tuple(name for name, method in METHODS.items() if not method.own)
