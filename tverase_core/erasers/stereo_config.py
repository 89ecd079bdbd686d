"""Settings of STEREO."""

from __future__ import annotations

from dataclasses import dataclass

from ..checks import (
    COUNT,
    NOT_NEGATIVE,
    POSITIVE,
    SEED,
    TEMPLATE,
    TEMPLATES,
    WORD,
    check_settings,
    one_of,
)
from ..inversion.config import InversionConfig
from ..sentences import OBJECT_SENTENCES
from .teaching import VARIANTS, Variant


@dataclass(frozen=True, slots=True)
class StereoConfig:
    """Settings of `stereo`; raises ConfigError with every problem.

    The defaults are those of the released code. variant: which weights, see `esd_keys`. rounds: of
    erasing and attacking. eta: how far stage 1 steers from the concept's own prediction; 1 ends at
    the empty prompt's. anchor_weight, negative_weight: pull of the anchors and push of the erase
    set in stage 2. That code computes 1 and 3, though its comment reads as if 1 were meant for
    both. sentences: shown around the embedding in an attack, each with one {}. template: the
    sentence around what an attack found when it is erased. start: the word that attacks start
    from, a coarse noun, or RANDOM. attacks_used: the first so many of them are erased in stage 2.
    attack_decay: AdamW's decay of the embedding. batch_size: samples a step, also of an attack.
    """

    variant: Variant = "x"
    rounds: int = 4
    erase_steps: int = 200
    erase_learning_rate: float = 5e-6
    attack_steps: int = 3000
    attack_learning_rate: float = 5e-3
    final_steps: int = 200
    final_learning_rate: float = 2e-5
    batch_size: int = 1
    eta: float = 1.0
    anchor_weight: float = 1.0
    negative_weight: float = 3.0
    template: str = "{}"
    start: str = "object"
    sentences: tuple[str, ...] = OBJECT_SENTENCES
    attacks_used: int = 4
    attack_decay: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        counts = ("rounds", "erase_steps", "attack_steps", "final_steps", "batch_size")
        rates = ("erase_learning_rate", "attack_learning_rate", "final_learning_rate")
        rules = {
            "variant": one_of(*VARIANTS),
            **dict.fromkeys(counts, COUNT),
            **dict.fromkeys((*rates, "eta", "negative_weight"), POSITIVE),
            **dict.fromkeys(("anchor_weight", "attacks_used", "attack_decay"), NOT_NEGATIVE),
            "template": TEMPLATE,
            "sentences": TEMPLATES,
            "start": WORD,
            "seed": SEED,
        }
        check_settings(self, rules)

    def attack(self, seed: int) -> InversionConfig:
        """Settings of one attack: one embedding of one token vector."""
        return InversionConfig(
            count=1,
            steps=self.attack_steps,
            learning_rate=self.attack_learning_rate,
            batch=self.batch_size,
            seed=seed,
            template=self.template,
            sentences=self.sentences,
            start=self.start,
            diversity=0.0,
            weight_decay=self.attack_decay,
        )
