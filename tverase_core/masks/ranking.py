"""Auto Block Mask: rank blocks by erasure gained per damage done, and keep the best of them.

That a part of the task vector erases as well and harms less is claimed in the abstract of
arXiv 2404.03631; how to find the part is our derivation. Both measures are denoising measures at
fixed noise, so ranking draws no picture:
gain = rise of the denoising loss of concept latents, mean over the triggers' contexts;
damage = mean squared change of the prediction on retained latents under the retained contexts.
Blocks are ranked by what each does alone (first order); the subset is measured jointly.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from torch import Tensor

from ..errors import ConfigError, EmptyMaskError, NonFiniteError, listed
from ..model.block_mask import BlockMask
from ..model.layout import ModelLayout
from ..patterns import LONGEST
from ..ports import Context, Denoiser, Progress, quiet
from ..vector.erase import signed_scale
from .config import RankingConfig
from .probe import DenoiseProbe

Groups = Mapping[str, tuple[str, ...]]
ALLOWANCE = 1.1  # a subset is searched even when it is foretold to do this much more damage


@dataclass(frozen=True, slots=True)
class BlockRanking:
    """Every group alone, every prefix of the ranking together, and the subset chosen.

    blocks, gain, damage, ratio: by group, in the order given; order: indices, best first.
    prefix_gain, prefix_damage: of the first 1, 2, ... groups of `order` together, the last being
    the whole vector. chosen: names of the subset, best first.
    """

    blocks: tuple[str, ...]
    gain: tuple[float, ...]
    damage: tuple[float, ...]
    ratio: tuple[float, ...]
    order: tuple[int, ...]
    prefix_gain: tuple[float, ...]
    prefix_damage: tuple[float, ...]
    chosen: tuple[str, ...]
    strength: float

    @property
    def share_of_gain(self) -> float:
        """The subset's gain relative to the whole vector's at equal strength."""
        return self.prefix_gain[len(self.chosen) - 1] / self.prefix_gain[-1]

    @property
    def share_of_damage(self) -> float:
        """The subset's damage relative to the whole vector's at equal strength."""
        whole = self.prefix_damage[-1]
        return self.prefix_damage[len(self.chosen) - 1] / whole if whole > 0 else 1.0

    def mask(self, groups: Groups, layout: ModelLayout) -> BlockMask:
        """The subset as a mask: by block where the groups are blocks, else by weight names."""
        names = set(self.blocks)
        if names <= set(layout.block_names(key for keys in groups.values() for key in keys)):
            return BlockMask.only(blocks=self.chosen)
        kept = sorted(key for name in self.chosen for key in groups[name])
        patterns = tuple((pattern, 1.0) for pattern in _patterns(kept))
        return BlockMask(patterns=patterns, other_blocks=0.0, other_kinds=0.0)


def group_keys(keys: Iterable[str], layout: ModelLayout, by_kind: bool = False) -> Groups:
    """Weight keys by block name, or by "block/kind"; blocks in the order of the data flow."""
    listed = sorted(keys)
    groups: dict[str, list[str]] = {}
    for block in layout.block_names(listed):
        for key in listed:
            place, kind = layout.locate(key)
            if place == block:
                groups.setdefault(f"{block}/{kind}" if by_kind else block, []).append(key)
    return {name: tuple(members) for name, members in groups.items()}


def _patterns(names: Sequence[str]) -> list[str]:
    """Regular expressions that together match these names, sorted, and no others; none is longer
    than a mask takes."""
    found, together = list[str](), list[str]()
    for name in names:
        if together and len(_pattern([*together, name])) > LONGEST:
            found.append(_pattern(together))
            together = []
        together.append(name)
    return [*found, _pattern(together)]


def _pattern(names: Sequence[str]) -> str:
    # Of sorted names the first and the last have the least in common.
    both = takewhile(lambda pair: pair[0] == pair[1], zip(names[0], names[-1], strict=False))
    start = "".join(letter for letter, _ in both)
    ends = "|".join(re.escape(name.removeprefix(start)) for name in names)
    return f"^{re.escape(start)}({ends})$"


class _Effects:
    """Gain and damage of any set of deltas at any strength."""

    def __init__(
        self,
        denoiser: Denoiser,
        deltas: Mapping[str, Tensor],
        groups: Groups,
        concept: tuple[DenoiseProbe, Context],
        retained: tuple[DenoiseProbe, Context],
    ) -> None:
        self.denoiser, self.deltas, self.groups = denoiser, deltas, groups
        self.concept, self.retained = concept, retained
        self.loss = concept[0].losses(denoiser, concept[1])
        self.prediction = retained[0].predictions(denoiser, retained[1])

    def measure(self, names: Sequence[str], strength: float) -> tuple[float, float]:
        """(gain, damage)."""
        place = self.denoiser.device
        part = {k: self.deltas[k].detach().to(place) for name in names for k in self.groups[name]}
        with self.denoiser.attached(part) as attachment:
            attachment.scale = signed_scale(strength)
            rise = self.concept[0].losses(self.denoiser, self.concept[1]) - self.loss
            moved = self.retained[0].predictions(self.denoiser, self.retained[1])
        change = float((moved - self.prediction).double().square().mean())
        gain = float(rise.mean())
        if not math.isfinite(gain + change):
            raise NonFiniteError(
                f"block ranking: {', '.join(names[:3])} at strength {strength:g} gives NaN or "
                "infinity; use a smaller strength"
            )
        return gain, change


def rank_blocks(
    denoiser: Denoiser,
    deltas: Mapping[str, Tensor],
    groups: Groups,
    concept_latents: Tensor,
    triggers: Context,
    retained_latents: Tensor,
    retained: Context,
    config: RankingConfig | None = None,
    progress: Progress = quiet,
) -> BlockRanking:
    """Rank groups of weights and choose a subset.

    deltas: float32 by key, towards the concept. groups: keys of `deltas` by name, see
    `group_keys`. concept_latents, retained_latents: float32 [j, c, h, w]. triggers, retained:
    one row a context. Raises EmptyMaskError without groups, or when the whole vector does not raise
    the loss; ConfigError when a context or a key is missing; NonFiniteError.
    """
    config = config or RankingConfig()
    _check(deltas, groups, triggers, retained)
    concept = DenoiseProbe.draw(concept_latents, denoiser.schedule, config.probes, config.seed)
    keeping = DenoiseProbe.draw(retained_latents, denoiser.schedule, config.probes, config.seed + 1)
    effects = _Effects(denoiser, deltas, groups, (concept, triggers), (keeping, retained))
    names, total, alone = tuple(groups), 2 * len(groups), []
    for done, name in enumerate(names):
        alone.append(effects.measure([name], config.strength))
        progress(done + 1, total, f"{name} alone")
    floor = 1e-6 * max(max(d for _, d in alone), 1e-30)  # no block is free: keeps ratios finite
    ratio = tuple(g / max(d, floor) for g, d in alone)
    order = tuple(sorted(range(len(names)), key=lambda i: (-ratio[i], i)))
    ranked, together = [names[i] for i in order], []
    for size in range(1, len(names) + 1):
        together.append(effects.measure(ranked[:size], config.strength))
        progress(len(names) + size, total, f"best {size} together")
    size = _fewest([gain for gain, _ in together], config)
    return BlockRanking(
        blocks=names,
        gain=tuple(g for g, _ in alone),
        damage=tuple(d for _, d in alone),
        ratio=ratio,
        order=order,
        prefix_gain=tuple(g for g, _ in together),
        prefix_damage=tuple(d for _, d in together),
        chosen=tuple(ranked[:size]),
        strength=config.strength,
    )


def _check(
    deltas: Mapping[str, Tensor], groups: Groups, triggers: Context, retained: Context
) -> None:
    if not groups:
        raise EmptyMaskError("block ranking: the task vector has no weights to rank")
    unknown = [key for keys in groups.values() for key in keys if key not in deltas]
    if unknown or not len(triggers.tokens) or not len(retained.tokens):
        raise ConfigError(
            f"block ranking: expected one or more triggers and retained contexts, got "
            f"{len(triggers.tokens)} and {len(retained.tokens)}; keys without a delta: "
            f"{listed(unknown) or 'none'}"
        )


def _fewest(gains: Sequence[float], config: RankingConfig) -> int:
    """Length of the shortest prefix that reaches `fraction` of the whole vector's gain."""
    whole = gains[-1]
    if whole <= 0:
        raise EmptyMaskError(
            f"block ranking: at strength {config.strength:g} the task vector does not raise the "
            f"denoising loss of the concept ({whole:.3g}), so no block erases anything"
        )
    return next(i for i, gain in enumerate(gains, 1) if gain >= config.fraction * whole)
