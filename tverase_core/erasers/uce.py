"""UCE: a closed-form edit of the cross-attention key and value matrices (arXiv 2308.14761).

The baseline that the method of this project is compared with. Symbols: n edited contexts, g their
guides, p preserved contexts, d text width, W0 a key or value matrix [out, d].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import NOT_NEGATIVE, POSITIVE, check_settings
from ..errors import ConfigError, EmptyMaskError, NonFiniteError, ShapeMismatchError
from ..model.layout import ModelLayout
from ..tensors import all_finite


@dataclass(frozen=True, slots=True)
class UceConfig:
    """keep: pull of every weight towards its base value (lambda), > 0, which also makes the
    system solvable; erase, preserve: weights of the two sums, >= 0. Raises ConfigError."""

    keep: float = 0.5
    erase: float = 1.0
    preserve: float = 1.0

    def __post_init__(self) -> None:
        weights = dict.fromkeys(("erase", "preserve"), NOT_NEGATIVE)
        check_settings(self, {"keep": POSITIVE, **weights})


def context_keys(keys: Iterable[str], layout: ModelLayout) -> list[str]:
    """The matrices that read the context: cross-attention keys and values, sorted.

    Raises EmptyMaskError when the model has none: transformers mix the prompt with the picture.
    """
    wanted = sorted(key for key in keys if layout.reads_context(key))
    if not wanted:
        raise EmptyMaskError(
            "UCE edits cross-attention matrices that read the prompt as the text encoder gives it, "
            f"those of Stable Diffusion 1.x, 2.x and XL; this model (layout {layout.name}) has "
            "none. Use ESD, or Concept Fine-tune and Extract Task Vector, for it."
        )
    return wanted


def uce(
    weights: Callable[[str], Tensor],
    keys: Sequence[str],
    concept: Tensor,
    guide: Tensor,
    preserve: Tensor | None = None,
    config: UceConfig | None = None,
) -> dict[str, Tensor]:
    """Deltas towards the concept: W0 - 1.0 * delta is UCE's edited weight. float32, on the CPU.

    weights: key -> base weight [out, d], any float dtype. concept: float [n, d], contexts to
    edit; guide: float [n, d] or [1, d], what each shall act like; preserve: float [p, d] or None.
    `uce_rows.py` has the contexts that the authors' code takes.
    arXiv 2308.14761, section 4, with keep = lambda, sums over i of n and j of p:
    W = (lambda W0 + erase sum W0 g_i c_i^T + preserve sum W0 p_j p_j^T) M^-1,
    M = lambda I + erase sum c_i c_i^T + preserve sum p_j p_j^T.
    Since W0 = W0 M M^-1, the delta W0 - W is W0 [erase sum (c_i - g_i) c_i^T] M^-1: one d x d
    system serves every key. Solved in float64.
    Raises ConfigError without keys or contexts, ShapeMismatchError, NonFiniteError.
    """
    config = config or UceConfig()
    if not keys or concept.ndim != 2 or len(concept) < 1:
        raise ConfigError(
            f"UCE: expected cross-attention keys and contexts [n, d], got {len(keys)} keys and "
            f"{tuple(concept.shape)}; a model of another architecture has no such keys"
        )
    c = concept.detach().to("cpu", torch.float64)
    g = _matching(guide, c, "guide")
    system = config.keep * torch.eye(c.shape[1], dtype=torch.float64) + config.erase * c.mT @ c
    if preserve is not None and len(preserve):
        kept = preserve.detach().to("cpu", torch.float64)
        if kept.shape[1:] != c.shape[1:]:
            raise ShapeMismatchError(
                f"UCE preserve contexts: expected width {c.shape[1]}, got {tuple(kept.shape)}",
                "preserve",
                (len(kept), c.shape[1]),
                kept.shape,
            )
        system = system + config.preserve * kept.mT @ kept
    pull = config.erase * c.mT @ (c - g.expand_as(c))
    if not bool(system.isfinite().all() and pull.isfinite().all()):
        raise NonFiniteError("UCE: a context holds NaN or infinity")
    # M is symmetric, so (A M^-1)^T = M^-1 A^T and A need never meet an inverse.
    right = torch.linalg.solve(system, pull).mT
    deltas = {}
    for key in keys:
        weight = weights(key).detach().to("cpu", torch.float64)
        if weight.ndim != 2 or weight.shape[1] != c.shape[1]:
            raise ShapeMismatchError(
                f"{key}: expected [out, {c.shape[1]}] to match the contexts, got "
                f"{tuple(weight.shape)}",
                key,
                (weight.shape[0], c.shape[1]),
                weight.shape,
            )
        deltas[key] = _finite(key, (weight @ right).float().contiguous())
    return deltas


def _finite(key: str, delta: Tensor) -> Tensor:
    if not all_finite(delta):
        raise NonFiniteError(
            f"UCE: the edit of {key} holds NaN or infinity. Look at the base's weight, or give "
            "`keep` a larger value."
        )
    return delta


def _matching(guide: Tensor, concept: Tensor, name: str) -> Tensor:
    found = guide.detach().to("cpu", torch.float64)
    if found.shape not in (concept.shape, (1, concept.shape[1])):
        raise ShapeMismatchError(
            f"UCE {name} contexts: expected {tuple(concept.shape)} or (1, {concept.shape[1]}), "
            f"got {tuple(found.shape)}",
            name,
            concept.shape,
            found.shape,
        )
    return found
