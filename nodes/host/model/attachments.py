"""Deltas at work inside a model: a diffusion model's or a text encoder's."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TypeAlias

import torch

from ....tverase_core.errors import KeyMismatchError, listed
from ....tverase_core.finetuning.low_rank import LowRankDeltas
from ..network.frozen_weight import Branch, FrozenWeight, may_stay
from ..storage.formats import is_packed, stored_scale, used_as_stored, values

Acting: TypeAlias = list[tuple[torch.Tensor, float]]  # deltas of one weight and their factors


class Attachment:
    """Deltas by key and the factor they are added with."""

    def __init__(self, deltas: Mapping[str, torch.Tensor]):
        self.deltas, self.scale = deltas, 1.0


@contextmanager
def attached_to(
    stack: list[Attachment], deltas: Mapping[str, torch.Tensor], known: Collection[str], advice: str
) -> Iterator[Attachment]:
    """The deltas lie on the stack while this is open.

    known: the keys that there are; advice: the error's sentence, with {} for the other keys.
    Raises KeyMismatchError for a delta without a weight.
    """
    unknown = [key for key in deltas if key not in known]
    if unknown:
        raise KeyMismatchError(advice.format(listed(unknown)), unexpected=unknown)
    attachment = Attachment(deltas)
    stack.append(attachment)
    try:
        yield attachment
    finally:
        stack.remove(attachment)


class WeightSlot:
    """The function the host calls on one weight at each forward pass: W -> W + scale * delta.

    layer: whose parameter it is, as stored. Where the host computes in bfloat16 it hands over W
    rounded to that, and W + delta, rounded again, would be W for every delta below half a step: no
    small edit would act at all. From the stored W, of more digits, as many weights move as should.
    Quantised weights have no more digits than what is handed over, unpacked. On a CPU such a sum is
    kept for the next passes: there, of all that a pass computes, it takes a fifth. `given` is for
    layers that need not wait for the host's copy (network/given_weights.py).
    """

    def __init__(self, key: str, stack: list[Attachment], layer: torch.nn.Module):
        self._key, self._stack, self._layer = key, stack, layer
        self._name = key.rpartition(".")[2]
        self._packed = is_packed(layer, self._name, layer._parameters[self._name])
        self._unit = stored_scale(layer, self._name)
        self._stays = may_stay(layer) and self._name == "weight"
        self._kept: tuple[Acting, torch.Tensor] | None = None

    def __call__(self, weight: torch.Tensor) -> torch.Tensor:
        # The host's parameters ask for gradients: undetached, each would gather a copy of its own.
        weight = weight.detach()
        if torch.is_grad_enabled() and self._stays:
            branches = self._branches()
            if branches is not None:
                return self._frozen(weight, branches)
        return self._with_deltas(weight, weight.dtype)

    def given(self, dtype: torch.dtype) -> torch.Tensor:
        """The same from the stored weight itself, which is not quantised."""
        weight = self._stored()
        if torch.is_grad_enabled() and self._stays:
            branches = self._branches()
            if branches is not None:
                return self._frozen(weight.to(dtype), branches)
        return self._with_deltas(weight, dtype)

    def _stored(self) -> torch.Tensor:
        return self._layer._parameters[self._name].detach()

    def _branches(self) -> list[Branch] | None:
        """What acts on the weight, or None where a delta is dense."""
        branches = []
        for attachment in self._stack:
            deltas, scale = attachment.deltas, attachment.scale
            if scale == 0 or self._key not in deltas:
                continue
            if not isinstance(deltas, LowRankDeltas):
                return None
            branches.append(Branch(*deltas.factors(self._key), scale / self._unit))
        return branches

    def _frozen(self, weight: torch.Tensor, branches: list[Branch]) -> torch.Tensor:
        unpacked = self._unpacked(weight)
        dense = partial(self._with_deltas, weight, weight.dtype)
        return FrozenWeight.of(unpacked, self._again(unpacked), branches, dense)

    def _again(self, unpacked: torch.Tensor) -> Callable[[], torch.Tensor]:
        """Gives what was handed over, in the format it is stored in or float32."""
        stored = self._stored()
        if stored.device != unpacked.device:  # brought here for this pass alone
            return lambda: unpacked
        if used_as_stored(stored):
            return lambda: stored
        return partial(values, self._layer, self._name, stored)

    def _unpacked(self, weight: torch.Tensor) -> torch.Tensor:
        if hasattr(weight, "_qdata"):  # hosts of 2025 hand over some of them packed
            return values(self._layer, self._name, weight).to(weight.dtype)
        return weight

    def _with_deltas(self, weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """What the layer computes with. weight: stored, or as the host hands it over."""
        weight = self._unpacked(weight)
        acting = [
            (attachment.deltas[self._key], attachment.scale)
            for attachment in self._stack
            if attachment.scale != 0 and self._key in attachment.deltas
        ]
        if acting and dtype == torch.bfloat16:
            if not self._packed:
                weight = self._stored().to(weight.device)
            if weight.device.type == "cpu" and not any(delta.requires_grad for delta, _ in acting):
                return self._kept_sum(weight, acting)
        weight = self._sum(weight, acting).to(dtype)
        # Autograd may not save the loader's inference tensors, so it gets a copy.
        return weight.clone() if torch.is_grad_enabled() and weight.is_inference() else weight

    def _sum(self, weight: torch.Tensor, acting: Acting) -> torch.Tensor:
        for delta, scale in acting:
            weight = torch.add(weight.float(), delta.to(weight.device), alpha=scale / self._unit)
        return weight

    def _kept_sum(self, weight: torch.Tensor, acting: Acting) -> torch.Tensor:
        """The sum in bfloat16, of the last call where the same deltas acted as strongly."""
        if self._kept is None or not _same(self._kept[0], acting):
            with torch.inference_mode(False), torch.no_grad():
                self._kept = acting, self._sum(weight, acting).to(torch.bfloat16)
        return self._kept[1]


def _same(first: Acting, second: Acting) -> bool:
    return len(first) == len(second) and all(
        one is other and scale == factor
        for (one, scale), (other, factor) in zip(first, second, strict=True)
    )
