"""What Auto-Strength found, in plain lines."""

from __future__ import annotations

from collections.abc import Sequence

from ...tverase_core.strength.choice import StrengthChoice, Verification
from ...tverase_core.strength.curve import RateRow


def strength_report(
    choice: StrengthChoice,
    concept: str,
    triggers: Sequence[str],
    prompts: Sequence[str],
    notes: Sequence[str],
) -> str:
    """triggers: names of the tuning triggers; prompts: the retained ones."""
    head = (
        f"Strength {choice.strength:g} for {concept!r}"
        if choice.strength is not None
        else f"No feasible strength for {concept!r}"
    )
    lines = [head, choice.reason, ""]
    for trade in choice.tradeoffs:
        share = "?" if trade.retained_ratio is None else f"{trade.retained_ratio:.0%}"
        lines.append(
            f"strength {trade.strength:g} ({trade.note}): worst trigger seen in "
            f"{trade.worst_rate:.0%} (up to {trade.worst_high:.0%}), retained {share} of base"
        )
    lines += ["Tuning triggers, share of pictures that still show it (95 % bound):"]
    lines += _rows(choice.tuning, triggers)
    lines += ["Retained prompts, seen now / before:"]
    for now, before in zip(choice.retained, choice.retained_base, strict=True):
        lines.append(f"  {prompts[now.index]}: {now.rate:.0%} / {before.rate:.0%}")
    if choice.verification is not None:
        lines += verified(choice.verification)
    lines += [
        f"Pictures drawn: {choice.images_drawn} (a full grid of this precision: "
        f"{choice.full_grid_images})",
        *notes,
    ]
    return "\n".join(lines)


def counts(choice: StrengthChoice) -> dict[str, list[list[int]]]:
    """At the strength that came out: hits and draws of each trigger, held-out ones included, and
    hits of each retained prompt now and on the base, from the held-out check where there is one.
    """
    check = choice.verification
    triggers = [*choice.tuning, *(check.triggers if check else ())]
    last = check or choice
    pairs = zip(last.retained, last.retained_base, strict=True)
    return {
        "triggers": [[row.hits, row.draws] for row in triggers],
        "retained": [[now.hits, before.hits] for now, before in pairs],
    }


def _rows(rows: Sequence[RateRow], names: Sequence[str]) -> list[str]:
    return [
        f"  {names[row.index]}: {row.hits} of {row.draws}, {row.rate:.0%} (up to {row.high:.0%})"
        for row in rows
    ]


def verified(found: Verification) -> list[str]:
    """The held-out check."""
    verdict = "holds" if found.passed else "does NOT fully hold"
    base = sum(row.rate for row in found.triggers_base) / len(found.triggers_base)
    lines = [
        f"Held-out check {verdict}: {len(found.triggers)} other triggers, "
        f"{len(found.seeds)} other seeds each",
        f"  concept reduced from {base:.0%} to {found.mean_hit:.0%} of pictures on average, "
        f"{found.worst_rate:.0%} for the worst trigger (up to {found.worst_high:.0%})",
        f"  retained prompts keep {found.retained_ratio:.0%} of the base rate",
    ]
    if found.collapsed:
        lines.append(f"  broken pictures: {found.collapsed}")
    return lines
