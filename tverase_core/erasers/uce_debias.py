"""Debiasing by UCE: let a prompt draw several attributes in given shares (arXiv 2308.14761).

Written from what the authors' code of 2025 computes: it draws pictures, adds to each attribute's
scale by how much its share falls short, and solves again, round after round. Its step size is read
nowhere there. Symbols: n prompts, m attributes, d text width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import COUNT, POSITIVE, check_settings
from ..errors import ConfigError
from ..ports import Progress, quiet

Solve = Callable[[Tensor], Mapping[str, Tensor]]
Measure = Callable[[Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True, slots=True)
class DebiasConfig:
    """Settings of `debias`, defaults as in the authors' code; raises ConfigError.

    rounds: of drawing and solving, at most. tolerance: a prompt whose shares all lie nearer than
    this to what is asked for is left as it is.
    """

    rounds: int = 30
    tolerance: float = 0.05

    def __post_init__(self) -> None:
        check_settings(self, {"rounds": COUNT, "tolerance": POSITIVE})


@dataclass(frozen=True, slots=True)
class DebiasResult:
    """deltas: W - 1.0 * delta is the edited weight. scales: float64 [n, m], of each attribute in
    each prompt's guide. shares: what was drawn in each round before its step, float64 [n, m].
    reached: whether the last of them were all within the tolerance."""

    deltas: dict[str, Tensor]
    scales: Tensor
    shares: tuple[Tensor, ...]
    reached: bool


def debias(
    solve: Solve,
    measure: Measure,
    prompts: int,
    wanted: Sequence[float],
    config: DebiasConfig | None = None,
    progress: Progress = quiet,
) -> DebiasResult:
    """Deltas under which the prompts draw the attributes in the wanted shares, or come near.

    solve: scales float64 [n, m] -> deltas of the closed form whose guides are the prompts' own
    contexts plus scales times the attributes'. measure: deltas -> shares float [n, m] of pictures
    drawn with W - 1.0 * delta. wanted: m shares, one or more, which sum to 1.
    Raises ConfigError, and what `solve` and `measure` raise.
    """
    config = config or DebiasConfig()
    goal = torch.tensor(list(wanted), dtype=torch.float64)
    if len(goal) < 2 or not bool((goal >= 0).all()) or abs(float(goal.sum()) - 1) > 1e-6:
        raise ConfigError(
            f"UCE debiasing: expected the shares of two or more attributes, 0 or more, which sum "
            f"to 1, got {list(wanted)}"
        )
    scales = torch.zeros(prompts, len(goal), dtype=torch.float64)
    shares: list[Tensor] = []
    deltas: Mapping[str, Tensor] = {}
    for number in range(config.rounds):
        shares.append(measure(deltas).to("cpu", torch.float64))
        gaps = goal - shares[-1]
        near = (gaps.abs() < config.tolerance).all(1)
        progress(number + 1, config.rounds, f"{int(near.sum())} of {prompts} as wanted")
        if bool(near.all()):
            return DebiasResult(dict(deltas), scales, tuple(shares), True)
        scales = scales + torch.where(near[:, None], 0.0, gaps)
        deltas = solve(scales)
    return DebiasResult(dict(deltas), scales, tuple(shares), False)
