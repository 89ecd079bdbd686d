"""What is counted of a seed: the attacks' worst points and the digits that are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tverase_core import (
    InversionConfig,
    SearchConfig,
    concept_inversion,
    diverse_inversion,
    find_strength,
)
from tverase_core.inversion.diverse import Validation
from tverase_core.judging.scoring import HIT
from tverase_core.ports import Context, joined, quiet
from tverase_core.strength.curve import StrengthGrid, StrengthRule
from tverase_core.strength.measurement import ModelMeasurement
from tverase_core.vector.erase import signed_scale

from .base import World
from .classes import NAMES, grid
from .drawing import DigitJudge
from .methods import ERASED

# Seeds of pictures: none is drawn twice, but for directions that two grids share.
TUNING, ATTACK, KEPT, GRID = 1_000_000, 2_000_000, 3_000_000, 4_000_000


class Counter:
    """Hits of one seed's model, under whatever is attached to its denoiser."""

    def __init__(self, world: World, judge: DigitJudge):
        self.world, self.judge = world, judge
        self._own = 10_000_000 * (world.seed + 1)

    def hits(self, context: Context, names: Sequence[str], draws: int, first: int) -> list[int]:
        """Of each row, how many of `draws` pictures the judge takes for the row's name."""
        rows = torch.arange(len(names)).repeat_interleave(draws)
        seeds = [self._own + first + k for k in range(len(rows))]
        images = self.world.sampler.images(context.pick(rows), seeds)
        found = []
        for row, name in enumerate(names):
            part = images[row * draws : (row + 1) * draws]
            whole = part[part.flatten(1).isfinite().all(1)]
            found.append(int((self.judge.score(whole, name) >= HIT).sum()) if len(whole) else 0)
        return found

    def counted(self) -> dict[str, Any]:
        """worst: of each attack 1..n the largest count; attack: of adaptive Concept Inversion's;
        plain: of the label itself; kept: hits of every other digit."""
        s, encode = self.world.settings, self.world.encoder.encode
        worst = []
        for n in range(1, s.most_n + 1):
            points = grid(n)
            context, first = Context(points[:, None]), GRID + 100_000 * n
            worst.append(max(self.hits(context, [ERASED] * len(points), s.draws, first)))
        found = self.attacks().contexts(self.world.encoder)
        names = [ERASED] * len(found.tokens)
        return {
            "worst": worst,
            "attack": max(self.hits(found, names, s.draws, ATTACK)),
            "plain": self.hits(encode([ERASED]), [ERASED], s.kept_draws, KEPT)[0],
            "kept": self.hits(encode(NAMES[1:]), NAMES[1:], s.kept_draws, KEPT + 1000),
        }

    def attacks(self) -> Any:
        """Concept Inversion on the model as it is now, which sees the edit."""
        s, world = self.world.settings, self.world
        pictures = world.of(0, world.encoder.encode([ERASED]))
        config = self._inversions(s.attack_steps, world.seed + 500)
        return concept_inversion(world.denoiser, world.encoder, pictures, config, quiet)

    def under(self, deltas: Mapping[str, Tensor], strength: float) -> dict[str, Any]:
        """The counts of W - strength * delta."""
        with self.world.denoiser.attached(deltas) as attachment:
            attachment.scale = signed_scale(strength)
            return self.counted()

    def triggers(self) -> Context:
        """What strengths are tuned on: the label, and inversions found on the base."""
        world, s = self.world, self.world.settings
        pictures = world.of(0, world.encoder.encode([ERASED]))
        seeds = range(self._own + TUNING, self._own + TUNING + s.draws)
        proof = Validation(world.sampler, self.judge, ERASED, seeds)
        config = self._inversions(s.inversion_steps, world.seed)
        found = diverse_inversion(world.denoiser, world.encoder, pictures, config, proof, quiet)
        return joined(world.encoder.encode([ERASED]), found.contexts(world.encoder))

    def _inversions(self, steps: int, seed: int) -> InversionConfig:
        s = self.world.settings
        return InversionConfig(
            count=s.inversions,
            steps=steps,
            learning_rate=s.inversion_rate,
            batch=8,
            seed=seed,
            template="{}",
            judged_draws=8,
        )

    def tuned(self, deltas: Mapping[str, Tensor], triggers: Context) -> dict[str, Any]:
        """Auto-Strength by the paper's rule: the least that silences every trigger.

        What else it harms does not count for the choice, so the curves compare erasures alike.
        """
        s = self.world.settings
        start = self._own + TUNING + 100_000
        config = SearchConfig(
            seeds=tuple(range(start, start + s.tuning_draws)),
            retained_seeds=tuple(range(start + 1000, start + 1004)),
            grid=StrengthGrid.even(s.strength_step, s.most_strength),
            rule=StrengthRule(budget=0.0),
            at_once=256,
        )
        with self.world.denoiser.attached(deltas) as attachment:
            measure = ModelMeasurement(
                attachment,
                self.world.sampler,
                self.judge,
                ERASED,
                triggers,
                self.world.encoder.encode(NAMES[1:]),
                NAMES[1:],
            )
            choice = find_strength(measure, config)
        strength = choice.strength if choice.strength is not None else s.most_strength
        return {"strength": strength, "feasible": choice.feasible, "reason": choice.reason}
