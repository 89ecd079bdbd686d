"""ConceptPrune: zero the weights that act for the concept (arXiv 2405.19237).

A baseline without training. Symbols: W a linear map [out, d], by default a feed-forward block's
second one, d the width of its input (there the GEGLU's output), t the sampler's steps, early ones
first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import COUNT, above, check_settings
from ..errors import ConfigError, EmptyMaskError, NonFiniteError, ShapeMismatchError
from ..model.layout import ModelLayout
from ..ports import Progress, quiet
from ..tensors import all_finite

LAYERS = {  # by the names that the authors' code has for them, more or less
    "ffn-2": re.compile(r".+\.ff\.net\.2\.weight"),
    "ffn-1": re.compile(r".+\.ff\.net\.0\.proj\.weight"),
    "attn-key": re.compile(r".+\.attn2\.to_k\.weight"),
    "attn-value": re.compile(r".+\.attn2\.to_v\.weight"),
}
ROWS_AT_ONCE = 8192  # of inputs in float32, so that a large picture needs little memory
SLACK = 1e-6  # 0.07 * 100 is less than 7 in floating point


@dataclass(frozen=True, slots=True)
class PruneConfig:
    """Settings of `concept_prune`; raises ConfigError with every problem.

    ratio: share of each output row that one step may choose, 0 < ratio <= 1; the authors take 0.02
    for objects, 0.01 else. steps_used: the first so many sampler steps count, 1 or more; theirs
    are the first fifth of the way from noise, 10 of 50 at even timesteps.
    """

    ratio: float = 0.02
    steps_used: int = 10

    def __post_init__(self) -> None:
        check_settings(self, {"ratio": above(0, 1), "steps_used": COUNT})


class ColumnNorms:
    """Euclidean norm of each input column of the layers, by weight key and sampler step.

    Every row (one token's input) counts with length 1, whatever its own: arXiv 2405.19237, after
    Wanda (arXiv 2306.11695), which takes the rows as they are.
    """

    def __init__(self) -> None:
        self._squares: dict[tuple[str, int], Tensor] = {}
        self._rows: dict[tuple[str, int], int] = {}

    def add(self, key: str, step: int, inputs: Tensor) -> None:
        """Count more inputs, float [..., d], any device. Raises ShapeMismatchError for another d,
        NonFiniteError."""
        rows = inputs.detach().flatten(0, -2)
        place = (key, step)
        total = torch.zeros(rows.shape[-1], dtype=torch.float64)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = rows[start : start + ROWS_AT_ONCE].float()
            unit = torch.nn.functional.normalize(part, dim=-1)
            total += unit.square().sum(0).to("cpu", torch.float64)
        if not all_finite(total):
            raise NonFiniteError(
                f"ConceptPrune: the input of {key} holds NaN or infinity at sampler step "
                f"{step + 1}. Does the model draw pictures at these settings?"
            )
        known = self._squares.get(place)
        if known is not None and known.shape != total.shape:
            raise ShapeMismatchError(
                f"{key}: inputs of width {len(known)} before, {len(total)} now",
                key,
                known.shape,
                total.shape,
            )
        self._squares[place] = total if known is None else known + total
        self._rows[place] = self._rows.get(place, 0) + len(rows)

    def steps(self, key: str) -> list[int]:
        """The sampler steps at which this layer was heard, in order."""
        return sorted(step for name, step in self._squares if name == key)

    def rows(self, key: str, step: int) -> int:
        """How many rows were counted."""
        return self._rows[key, step]

    def of(self, key: str, step: int) -> Tensor:
        """float32 [d], >= 0."""
        return self._squares[key, step].sqrt().float()


@dataclass(frozen=True, slots=True)
class PruneResult:
    """deltas: float32 on the CPU, W where W is pruned and 0 elsewhere, so W - 1.0 * delta is
    ConceptPrune's edited weight; layers without a pruned weight are left out. pruned: number of
    pruned weights by key, every layer. sizes: number of weights by key."""

    deltas: dict[str, Tensor]
    pruned: dict[str, int]
    sizes: dict[str, int]

    def sentence(self, model_weights: int) -> str:
        """How much is pruned of these layers and of a model with so many weights."""
        count, of_layers = sum(self.pruned.values()), sum(self.sizes.values())
        return (
            f"Pruned {count:,} weights: {count / of_layers:.2%} of the {len(self.sizes)} layers "
            f"looked at, {count / model_weights:.3%} of the model."
        )

    def by_block(self, layout: ModelLayout) -> dict[str, tuple[int, int]]:
        """(pruned weights, weights looked at) by block, in the order of the data flow."""
        counts = dict.fromkeys(layout.block_names(self.sizes), (0, 0))
        for key, size in self.sizes.items():
            block = layout.block(key)
            pruned, of = counts[block]
            counts[block] = pruned + self.pruned[key], of + size
        return counts


def prunable_keys(keys: Iterable[str], layout: ModelLayout, layers: str = "ffn-2") -> list[str]:
    """The weights of these layers, sorted; layers: a name of LAYERS.

    The second linear map of each feed-forward block, its first (the GEGLU's), or the
    cross-attention's keys or values. Raises EmptyMaskError when the model has none: other families
    build these blocks differently.
    """
    wanted = sorted(
        key for key in keys if layout.name == "sd-unet" and LAYERS[layers].fullmatch(key)
    )
    if not wanted:
        raise EmptyMaskError(
            f"ConceptPrune prunes layers ({layers}) of UNets such as Stable Diffusion 1.x, 2.x and "
            f"XL; this model (layout {layout.name}) has none of them. Use Concept Fine-tune and "
            "Extract Task Vector for it."
        )
    return wanted


def chosen(weight: Tensor, target: Tensor, base: Tensor, ratio: float) -> Tensor:
    """What one step prunes, bool [out, d].

    weight: float32 [out, d]; target, base: float32 [d], column norms with and without the concept.
    The score of a weight is |W| times the norm of its column (arXiv 2306.11695, eq. 1). Of each
    output row the `ratio` of the weights (rounded down, but one at least) with the largest target
    score is chosen, and of these the ones whose target score exceeds their base score.
    """
    size = weight.abs()
    score = size * target
    count = max(1, int(ratio * weight.shape[1] + SLACK))
    top = torch.zeros_like(weight, dtype=torch.bool)
    top.scatter_(1, score.topk(count, dim=1).indices, True)
    return top & (score > size * base)


def concept_prune(
    weights: Callable[[str], Tensor],
    keys: Sequence[str],
    target: ColumnNorms,
    base: ColumnNorms,
    config: PruneConfig | None = None,
    progress: Progress = quiet,
) -> PruneResult:
    """Deltas towards the concept from what the layers heard (arXiv 2405.19237).

    weights: key -> W [out, d], any float dtype and device. keys: of `prunable_keys`. target, base:
    norms while drawing prompts with and without the concept, at equal seeds. A weight is pruned
    when one of the first `steps_used` steps chooses it. Scored where the weight lies.
    Raises ConfigError when a layer was not heard, or not equally often with and without the
    concept; ShapeMismatchError, NonFiniteError.
    """
    config = config or PruneConfig()
    if not keys:
        raise ConfigError("ConceptPrune: expected the keys of layers, got none")
    result = PruneResult({}, {}, {})
    for number, key in enumerate(keys):
        weight = _weight(weights(key), key)
        mask = torch.zeros_like(weight, dtype=torch.bool)
        for step in _steps(key, target, base, config.steps_used):
            norms = [_norm(known, key, step, weight) for known in (target, base)]
            mask |= chosen(weight, norms[0], norms[1], config.ratio)
        result.pruned[key], result.sizes[key] = int(mask.sum()), weight.numel()
        if result.pruned[key]:
            result.deltas[key] = (weight * mask).cpu().contiguous()
        progress(number + 1, len(keys), f"ConceptPrune: scored {number + 1} of {len(keys)} layers")
    return result


def _weight(stored: Tensor, key: str) -> Tensor:
    weight = stored.detach().float()
    if weight.ndim != 2:
        raise ShapeMismatchError(
            f"{key}: expected a matrix [out, d], got {tuple(weight.shape)}", key, (), weight.shape
        )
    if not all_finite(weight):
        raise NonFiniteError(f"ConceptPrune: the base's weight {key} holds NaN or infinity")
    return weight


def _steps(key: str, target: ColumnNorms, base: ColumnNorms, steps_used: int) -> list[int]:
    """The steps that count. Raises ConfigError unless both sides heard the same."""
    heard: list[Mapping[int, int]] = [
        {step: side.rows(key, step) for step in side.steps(key) if step < steps_used}
        for side in (target, base)
    ]
    if not heard[0] or heard[0] != heard[1]:
        raise ConfigError(
            f"ConceptPrune: {key} was heard at {len(heard[0])} sampler steps with the concept and "
            f"at {len(heard[1])} without it, expected the same steps and as many rows. Draw both "
            "with the same settings and a sampler of fixed steps, such as euler or dpmpp_2m, and "
            "on a model that is not compiled."
        )
    return list(heard[0])


def _norm(known: ColumnNorms, key: str, step: int, weight: Tensor) -> Tensor:
    norm = known.of(key, step)
    if len(norm) != weight.shape[1]:
        raise ShapeMismatchError(
            f"{key}: the weight takes inputs of width {weight.shape[1]}, heard were inputs of "
            f"width {len(norm)}",
            key,
            (weight.shape[1],),
            norm.shape,
        )
    return norm.to(weight.device)
