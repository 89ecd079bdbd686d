"""What the passes through a small flow model give: losses, gradients, bytes kept for them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from host_support.saved_by_autograd import Saved, saved_by_autograd
from host_support.tiny_flow import FAMILIES, texts

STEP = 2e-4  # of the finite difference: small enough that HiDream's experts stay chosen
LENGTHS = (5, 7, 5)  # tokens of the prompts
EQUAL = (7, 7, 7)  # what a memory estimate takes all texts for: the longest


@dataclass(frozen=True)
class Pass:
    """gradients: by weight, None where none came. kept: bytes that autograd held for them."""

    loss: float
    gradients: dict[str, Tensor | None]
    kept: int

    def slope(self) -> float:
        """Length of the whole gradient."""
        found = [g.flatten() for g in self.gradients.values() if g is not None]
        return float(torch.cat(found).norm())


def inputs(name: str) -> tuple[Tensor, Tensor, Tensor]:
    """x_t, target and shares of the schedule for three pictures."""
    source = torch.Generator().manual_seed(3)
    x, target = torch.randn((2, 3, *FAMILIES[name].latent), generator=source).unbind(0)
    return x, target, torch.tensor([0.2, 0.5, 0.9])


def one_pass(
    model: Any, name: str, *, recompute: bool = False, lengths: tuple[int, ...] = LENGTHS
) -> Pass:
    """Forward and backward, with a delta of zeros on every weight."""
    from tverase_pack.nodes.host.model.denoiser import open_denoiser
    from tverase_pack.nodes.host.training.recompute import recomputed_blocks

    x, target, shares = inputs(name)
    with open_denoiser(model) as denoiser, torch.enable_grad():
        deltas = {
            k: torch.zeros(s, requires_grad=True) for k, s in denoiser.weight_shapes().items()
        }
        how = recomputed_blocks(model.model.diffusion_model) if recompute else nullcontext()
        hooks = nullcontext(Saved()) if recompute else saved_by_autograd()
        with denoiser.attached(deltas), how, hooks as saved:
            made = denoiser.predict(x, denoiser.schedule.at(shares), texts(name, *lengths))
            kept = saved.nbytes()
            loss = (made - target).square().mean()
            loss.backward()
    return Pass(loss.item(), {k: delta.grad for k, delta in deltas.items()}, kept)


def finite_difference(model: Any, name: str, found: Pass) -> float:
    """The loss's rise along the gradient of length 1, by two passes without a gradient: the
    gradient's own length, where that is right."""
    length = found.slope()
    along = {k: g / length for k, g in found.gradients.items() if g is not None}
    rise = _loss_at(model, name, along, STEP) - _loss_at(model, name, along, -STEP)
    return rise / (2 * STEP)


def _loss_at(model: Any, name: str, deltas: Mapping[str, Tensor], scale: float) -> float:
    from tverase_pack.nodes.host.model.denoiser import open_denoiser

    x, target, shares = inputs(name)
    with open_denoiser(model) as denoiser, torch.no_grad():
        with denoiser.attached(deltas) as attachment:
            attachment.scale = scale
            made = denoiser.predict(x, denoiser.schedule.at(shares), texts(name, *LENGTHS))
        return float((made - target).double().square().mean())


def estimated(model: Any, name: str) -> int:
    """Bytes that the memory plan expects of `one_pass` with texts of the longest length."""
    from tverase_pack.nodes.host.training.activations import activations

    shape = (len(EQUAL), *FAMILIES[name].latent)
    return activations(model, shape, lambda key: True, texts(name, *EQUAL)).whole
