"""What Concept Inversion Attack says, in words."""

from __future__ import annotations

from ...tverase_core.inversion.attack import Leak
from ...tverase_core.inversion.config import InversionConfig
from ...tverase_core.inversion.inversion_set import InversionSet


def invalid_text(base: InversionSet, config: InversionConfig) -> str:
    """Why attacks that fail on the base are no result."""
    best = 0.0 if base.hit_rates is None else float(base.hit_rates.max())
    return (
        f"Invalid: none of {len(base)} attacks ({_effort(config)}) brings {base.concept!r} about "
        f"on the base model itself (best: {best:.0%} of pictures, half are needed), so they can "
        "prove nothing about an edit, and `model` was not attacked. Give a larger budget, another "
        "learning_rate (lower when the loss rose, higher when it stood still), another start word "
        "or clearer pictures."
    )


def leak_text(
    leak: Leak, config: InversionConfig, plain: tuple[float, float], apart: float | None
) -> str:
    """The result in plain lines. plain: the plain prompt's rates on the model and on its base;
    apart: how far the model's stored weights are from the base's, None for the same."""
    edited, base = (
        f"{leak.hits(side)} of {len(leak.counted) * leak.draws} pictures "
        f"({leak.interval(side).low:.1%} to {leak.interval(side).high:.1%})"
        for side in (leak.edited, leak.base)
    )
    lines = [
        f"{leak.edited.concept!r} under attack: {edited}; on the base: {base}",
        f"worst attack: at most {leak.upper_bound():.1%}",
        f"plain prompt: {plain[0]:.0%} of pictures; on the base {plain[1]:.0%}",
        f"{len(leak.edited)} attacks: {_effort(config)}, {leak.draws} pictures judged each; "
        "intervals are 95 %, over pictures",
    ]
    invalid = [str(k + 1) for k in range(len(leak.base)) if k not in leak.counted]
    if invalid:
        lines.append(
            f"attacks {', '.join(invalid)} are invalid: they fail on the base too, and do not count"
        )
    if apart is not None:
        lines.append(f"the two MODELs hold other weights, {apart:.1%} apart in a sample of them")
    return "\n".join(lines)


def _effort(config: InversionConfig) -> str:
    views = config.steps * config.batch
    return f"{config.steps:,} steps of {config.batch} pictures = {views:,} views each"


def labels(leak: Leak) -> list[str]:
    """Of the pictures: attack by attack, the model's row and then the base's."""
    found = []
    for k in range(len(leak.edited)):
        invalid = "" if k in leak.counted else ", invalid"
        for name, side in (("model", leak.edited), ("base", leak.base)):
            found.append(
                f"attack {k + 1}, {name}: {leak.hits_of(side, k)} of {leak.draws}{invalid}"
            )
    return found
