"""A judge made from example pictures: is this picture's feature vector nearer to the concept's?

For models whose concepts no ready judge knows. The features come from the host (a CLIP vision
model, say). The calibration on left-out examples and the refusal are our own derivation.
Symbols: m concept examples, k counter-examples, d feature width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import JudgeError, NonFiniteError, ShapeMismatchError
from ..ports import Judge
from .scoring import HIT

Features = Callable[[Tensor], Tensor]  # pictures [n, H, W, 3] in 0..1 -> float [n, d]
LEAST = 4  # examples of each kind
NEEDED = 0.9  # share of left-out examples that must be told rightly


@dataclass(frozen=True, slots=True)
class Prototype:
    """P(concept | picture) = sigmoid(slope * (direction . x - middle)), x of length 1.

    must_fire: share of left-out concept examples that were seen; must_not_fire: share of left-out
    counter-examples that were not.
    """

    concept: str
    direction: Tensor
    slope: float
    middle: float
    must_fire: float
    must_not_fire: float

    def score(self, features: Tensor) -> Tensor:
        """float [n, d] -> float32 [n] in 0..1."""
        places = _unit(features) @ self.direction
        return torch.sigmoid(self.slope * (places - self.middle)).float()


def fit_prototype(concept: str, shown: Tensor, counter: Tensor) -> Prototype:
    """Fit on features float [m, d] of the concept and [k, d] of anything else.

    The direction is the difference of the two centroids. Middle and slope come from each
    example's place on it when that example is left out of its centroid: the posterior of two
    normal distributions of one spread and equal priors.
    Raises JudgeError when examples are too few, or too many left-out ones are told wrongly.
    """
    _check(concept, shown, counter)
    yes, no = _unit(shown), _unit(counter)
    direction = yes.mean(0) - no.mean(0)
    # rows: each example's place by the direction that does not know it
    places_yes = (yes * (_others(yes) - no.mean(0))).sum(1)
    places_no = (no * (yes.mean(0) - _others(no))).sum(1)
    middle = float(places_yes.mean() + places_no.mean()) / 2
    apart = float(places_yes.mean() - places_no.mean())
    spread = float(torch.cat([places_yes - places_yes.mean(), places_no - places_no.mean()]).var())
    # Few examples understate the spread, so it is kept from vanishing.
    slope = apart / max(spread, (apart / 8) ** 2, 1e-12)
    fires = [torch.sigmoid(slope * (places - middle)) >= HIT for places in (places_yes, places_no)]
    fired, silent = float(fires[0].double().mean()), float((~fires[1]).double().mean())
    if apart <= 0 or fired < NEEDED or silent < NEEDED:
        raise JudgeError(
            f"These examples do not make a judge for {concept!r}: with each example left out in "
            f"turn, it saw the concept in {fired:.0%} of its pictures and stayed silent on "
            f"{silent:.0%} of the others ({NEEDED:.0%} of each are needed). Give more or clearer "
            "examples, and counter-examples that do not show the concept."
        )
    return Prototype(concept, direction, slope, middle, fired, silent)


class PrototypeJudge:
    """Implements `ports.Judge` for each fitted concept; asks `others` for names it lacks."""

    def __init__(
        self, features: Features, prototypes: Mapping[str, Prototype], others: Judge | None = None
    ) -> None:
        self._features, self._prototypes, self._others = features, dict(prototypes), others

    def concepts(self) -> tuple[str, ...]:
        """Every name it knows, those of `others` included."""
        return tuple(dict.fromkeys((*self._prototypes, *known_concepts(self._others))))

    def score(self, images: Tensor, concept: str) -> Tensor:
        """images float [n, H, W, 3] in 0..1 -> float32 [n]. Raises JudgeError for other names."""
        if concept in self._prototypes:
            return self._prototypes[concept].score(self._features(images))
        if self._others is None:
            raise JudgeError(
                f"This judge does not know {concept!r}. It knows {', '.join(self.concepts())}. "
                "Add a judge for it, or correct the name."
            )
        return self._others.score(images, concept)


def known_concepts(judge: Judge | None) -> tuple[str, ...]:
    """The names a judge knows; () when it does not tell."""
    tell = getattr(judge, "concepts", None)
    return tuple(tell()) if callable(tell) else ()


def check_names(judge: Judge, names: tuple[str, ...]) -> None:
    """Raises JudgeError for names that a judge with a list does not know."""
    known = known_concepts(judge)
    strangers = [name for name in dict.fromkeys(names) if known and name not in known]
    if strangers:
        raise JudgeError(
            f"This judge does not know {', '.join(map(repr, strangers))}. It knows "
            f"{', '.join(known)}. Write one of these names, or give the judge more examples."
        )


def _unit(features: Tensor) -> Tensor:
    found = features.detach().to("cpu", torch.float64)
    unit: Tensor = found / found.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return unit


def _others(rows: Tensor) -> Tensor:
    """Row i: the mean of all rows but row i."""
    return (rows.sum(0) - rows) / (len(rows) - 1)


def _check(concept: str, shown: Tensor, counter: Tensor) -> None:
    for name, rows in (("examples", shown), ("counter-examples", counter)):
        if rows.ndim != 2 or rows.shape[1:] != shown.shape[1:]:
            raise ShapeMismatchError(
                f"judge for {concept!r}: features of the {name} have shape {tuple(rows.shape)}, "
                f"expected [n, {shown.shape[-1]}]",
                name,
                shown.shape,
                rows.shape,
            )
        if len(rows) < LEAST:
            raise JudgeError(
                f"The judge for {concept!r} needs {LEAST} or more {name}, got {len(rows)}. "
                "16 or more of each work well."
            )
        if not bool(torch.isfinite(rows).all()) or not math.isfinite(float(rows.norm())):
            raise NonFiniteError(f"judge for {concept!r}: features hold NaN or infinity")
