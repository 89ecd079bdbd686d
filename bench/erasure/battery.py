"""Count how often the judge fires on an edited model, under every kind of trigger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tverase_core.judging.scoring import HIT, judged

Counts = list[tuple[int, int]]  # (hits, pictures), one pair a trigger


@dataclass(frozen=True)
class Battery:
    """The same triggers and seeds for every model that is compared.

    groups: group name -> (context with one row a trigger, what the judge should see in each, how
    many pictures each). Groups have seeds of their own.
    """

    studio: Any
    judge: Any
    groups: Mapping[str, tuple[Any, Sequence[str], int]]
    first_seed: int
    at_once: int = 32

    def under(self, deltas: Any, strength: float, only: Sequence[str]) -> dict[str, Counts]:
        """Hits by group while strength * deltas are subtracted."""
        from tverase_pack.tverase_core.vector.erase import signed_scale

        with self.studio.denoiser.attached(deltas) as attachment:
            attachment.scale = signed_scale(strength)
            return self.count(only)

    def count(self, only: Sequence[str] | None = None) -> dict[str, Counts]:
        """Hits by group, with whatever is attached to the studio's denoiser right now.

        Raises NonFiniteError when the judge answers with NaN: no picture counts as erased for that.
        """
        return {
            name: self._group(number, *group)
            for number, (name, group) in enumerate(self.groups.items())
            if only is None or name in only
        }

    def _group(self, number: int, context: Any, names: Sequence[str], count: int) -> Counts:
        rows = torch.arange(len(names)).repeat_interleave(count)
        start = self.first_seed + 10_000 * number
        seeds = [start + i % count for i in range(len(rows))]
        scores = torch.cat(
            [
                self._scores(
                    context, names, rows[i : i + self.at_once], seeds[i : i + self.at_once]
                )
                for i in range(0, len(rows), self.at_once)
            ]
        )
        fired = (scores >= HIT).view(len(names), count).sum(1)
        return [(int(hits), count) for hits in fired]

    def _scores(
        self, context: Any, names: Sequence[str], rows: torch.Tensor, seeds: Sequence[int]
    ) -> torch.Tensor:
        images = self.studio.sampler.images(context.pick(rows), seeds)
        scores = torch.empty(len(rows))
        for name in dict.fromkeys(names[row] for row in rows.tolist()):
            mine = torch.tensor([names[row] == name for row in rows.tolist()])
            scores[mine] = judged(self.judge, images[mine], name)
        return scores
