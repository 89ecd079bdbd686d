"""The erasure's effect against its strength, and the choice that was made."""

from __future__ import annotations

from typing import Any

from PIL import Image

from ...tverase_core.strength.choice import StrengthChoice
from ...tverase_core.strength.curve import StrengthCurve, StrengthRule
from .figure import BLUE, GREEN, GREY, ORANGE, RED, new_figure, to_picture


def strength_curve(choice: StrengthChoice, concept: str) -> Image.Image:
    """Triggers thin, the worst bold with its interval, retained ratio, target, budget, choice."""
    figure = new_figure(6.8, 4.8)
    axes = figure.subplots()
    curve, rule = choice.curve, choice.rule
    _triggers(axes, curve)
    _worst(axes, curve, rule)
    _retained(axes, curve)
    axes.axhline(rule.target, color=ORANGE, linestyle=":", linewidth=1.3, label="target")
    axes.axhline(rule.budget, color=BLUE, linestyle=":", linewidth=1.3, label="budget")
    for strength, why in zip(curve.strengths, curve.collapsed, strict=True):
        if why is not None:
            axes.plot([strength], [1.04], marker="x", color=RED, clip_on=False)
    if choice.strength is not None:
        axes.axvline(choice.strength, color="black", linewidth=1.2)
        axes.annotate(
            f"strength {choice.strength:g}",
            (choice.strength, 0.5),
            xytext=(4, 0),
            textcoords="offset points",
            rotation=90,
            va="center",
        )
    _verified(axes, choice)
    axes.set_xlim(0, max(curve.strengths[-1] * 1.04, 0.1))
    axes.set_ylim(-0.03, 1.12)
    axes.set_xlabel("strength (alpha)")
    axes.set_ylabel("share of pictures")
    state = "" if choice.feasible else ": no feasible strength"
    axes.set_title(f"Erasing {concept!r}{state}")
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    return to_picture(figure)


def _triggers(axes: Any, curve: StrengthCurve) -> None:
    for trigger in range(len(curve.hits[0])):
        points = [
            (s, hits[trigger] / draws[trigger])
            for s, hits, draws in zip(curve.strengths, curve.hits, curve.draws, strict=True)
            if draws[trigger]
        ]
        label = "each trigger" if trigger == 0 else None
        axes.plot(*_columns(points), color=GREY, linewidth=0.7, alpha=0.6, label=label)


def _worst(axes: Any, curve: StrengthCurve, rule: StrengthRule) -> None:
    rows = [(s, curve.worst(i, rule.z)) for i, s in enumerate(curve.strengths)]
    found = [(s, row) for s, row in rows if row is not None]
    if not found:
        return
    places = [s for s, _ in found]
    rates = [row.rate for _, row in found]
    below = [max(0.0, row.rate - row.low) for _, row in found]
    above = [max(0.0, row.high - row.rate) for _, row in found]
    axes.errorbar(
        places,
        rates,
        yerr=[below, above],
        color=ORANGE,
        linewidth=2.2,
        capsize=3,
        marker="o",
        markersize=4,
        label="worst trigger seen",
    )


def _retained(axes: Any, curve: StrengthCurve) -> None:
    rows = [(s, curve.retained_ratio(i)) for i, s in enumerate(curve.strengths)]
    points = [(s, ratio) for s, ratio in rows if ratio is not None]
    axes.plot(
        *_columns(points),
        color=BLUE,
        linewidth=2.2,
        linestyle="--",
        marker="s",
        markersize=4,
        label="retained, relative to base",
    )


def _verified(axes: Any, choice: StrengthChoice) -> None:
    found = choice.verification
    if found is None:
        return
    axes.errorbar(
        [found.strength],
        [found.worst_rate],
        yerr=[[0.0], [max(0.0, found.worst_high - found.worst_rate)]],
        color=GREEN,
        marker="D",
        markersize=6,
        capsize=4,
        linestyle="none",
        label="worst held-out trigger",
    )


def _columns(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
