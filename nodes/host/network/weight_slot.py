"""What a layer computes with where deltas are at work."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch

from ....tverase_core.finetuning.low_rank import LowRankDeltas
from ..storage.formats import is_packed, stored_scale, used_as_stored, values
from .attachments import Attachment
from .frozen_weight import Branch, FrozenWeight, is_large, may_stay
from .layer_gradients import Held
from .loose import stored_in
from .room import Added

Acting: TypeAlias = list[Added]  # deltas of one weight; factors are their attachments' scales


class WeightSlot:
    """The function the host calls on one weight at each forward pass: W -> W + scale * delta.

    layer: whose parameter it is, as stored. Where the host computes in bfloat16 it hands over W
    rounded to that, and W + delta, rounded again, would be W for every delta below half a step: no
    small edit would act at all. From the stored W, of more digits, as many weights move as should.
    Quantised weights have no more digits than what is handed over, unpacked. On a CPU such a sum is
    kept for the next passes: there, of all that a pass computes, it takes a fifth. What another
    function has changed before (another pack's, or a LoRA of the host's where the model is loaded
    in part) is kept in either case. `given` is for layers that need not wait for the host's copy
    (network/given_weights.py); what it gives serves until the next layer asks.
    """

    def __init__(self, key: str, stack: list[Attachment], layer: torch.nn.Module):
        self._key, self._stack, self._layer = key, stack, layer
        self._name = key.rpartition(".")[2]
        self._packed = is_packed(layer, self._name, stored_in(layer, self._name))
        self._unit = stored_scale(layer, self._name)
        self._stays = may_stay(layer) and self._name == "weight"
        self._kept: tuple[Acting, torch.Tensor] | None = None

    def __call__(self, weight: torch.Tensor) -> torch.Tensor:
        # The host's parameters ask for gradients: undetached, each would gather a copy of its own.
        weight = self._unpacked(weight.detach())
        return self._made(weight, weight.dtype, self._is_changed())

    def given(self, dtype: torch.dtype) -> torch.Tensor:
        """The same from the stored weight itself, which is not quantised."""
        weight = self._stored()
        # Not a bias: a layer reads it beside its weight.
        if self._stays and is_large(weight) and not torch.is_grad_enabled():
            return self._summed(weight, dtype, at_once=True)
        return self._made(weight, dtype)

    def _made(
        self, weight: torch.Tensor, dtype: torch.dtype, changed: bool = False
    ) -> torch.Tensor:
        """What the layer computes with. weight: stored, or what the host hands over, unpacked."""
        if torch.is_grad_enabled() and self._stays and not changed:
            return self._frozen(weight, dtype)
        return self._summed(weight, dtype, changed=changed)

    def _is_changed(self) -> bool:
        """Whether what the host hands over is not what is stored: functions before this one."""
        mine = getattr(self._layer, f"{self._name}_function", None) or [self]
        lora = getattr(self._layer, f"{self._name}_lowvram_function", None)
        return lora is not None or (self in mine and mine[0] is not self)

    def _is_brought(self, weight: torch.Tensor) -> bool:
        """Whether the host has moved it here for this pass; newer ones into memory that the next
        layers' weights take too."""
        return self._stored().device != weight.device

    def _frozen(self, weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        again, dense = self._again(weight, dtype), partial(self._summed, weight, dtype)
        branches = self._branches()
        if branches is not None:
            return FrozenWeight.of(weight.to(dtype), Held(again), dense, branches)
        if self._is_brought(weight) or not is_large(weight):
            return dense()
        acting = self._acting()  # as strongly in the backward pass, whatever the scale is then

        def summed() -> torch.Tensor:
            return self._summed(again(), dtype, acting, at_once=True)

        shaped = weight.new_empty(1, dtype=dtype).expand(weight.shape)
        return FrozenWeight.of(shaped, Held(summed, self._added(acting, weight.device)), dense)

    def _stored(self) -> torch.Tensor:
        return stored_in(self._layer, self._name).detach()

    def _at_work(self) -> list[Attachment]:
        return [
            attachment
            for attachment in self._stack
            if attachment.scale != 0 and self._key in attachment.deltas
        ]

    def _acting(self) -> Acting:
        return [Added(at.deltas[self._key], at.scale, at.room, at.hooked) for at in self._at_work()]

    def _added(self, acting: Acting, device: torch.device) -> list[Added]:
        """On that device, in the unit of a scaled format."""
        return [
            one._replace(delta=one.delta.to(device), factor=one.factor / self._unit)
            for one in acting
        ]

    def _branches(self) -> list[Branch] | None:
        """What acts on the weight, or None where a delta is dense."""
        branches = []
        for at_work in self._at_work():
            if not isinstance(at_work.deltas, LowRankDeltas):
                return None
            factors = at_work.deltas.factors(self._key)
            branches.append(Branch(*factors, at_work.scale / self._unit))
        return branches

    def _again(self, weight: torch.Tensor, dtype: torch.dtype) -> Callable[[], torch.Tensor]:
        """Gives that weight, unpacked, in its own format or what the layer computes in."""
        stored, device = self._stored(), weight.device
        if used_as_stored(stored) and not self._is_brought(weight):
            return lambda: stored
        return lambda: values(self._layer, self._name, stored).to(device, dtype)

    def _unpacked(self, weight: torch.Tensor) -> torch.Tensor:
        if hasattr(weight, "_qdata"):  # hosts of 2025 hand over some of them packed
            return values(self._layer, self._name, weight).to(weight.dtype)
        return weight

    def _summed(
        self,
        weight: torch.Tensor,
        dtype: torch.dtype,
        acting: Acting | None = None,
        at_once: bool = False,
        changed: bool = False,
    ) -> torch.Tensor:
        """acting: None for what acts now. at_once: it is used before the next one is made.
        changed: the weight is not the stored one."""
        acting = self._acting() if acting is None else acting
        if not acting:
            return self._to_save(weight.to(dtype), self._is_brought(weight))
        if dtype == torch.bfloat16:
            if not self._packed:
                weight = self._with_all_digits(weight, changed)
            learns = any(one.delta.requires_grad for one in acting)
            if weight.device.type == "cpu" and not learns and not changed:
                return self._kept_sum(weight, acting)
        # Hosts that multiply in 8 bits hand over 8-bit numbers, in which no small edit would act.
        dtype = torch.bfloat16 if dtype.itemsize == 1 else dtype
        return self._to_save(self._sum(weight, acting, at_once).to(dtype))

    def _to_save(self, weight: torch.Tensor, brought: bool = False) -> torch.Tensor:
        """Autograd may not save the loader's inference tensors, nor memory that is used again, so
        it gets a copy."""
        if torch.is_grad_enabled() and (brought or weight.is_inference()):
            return weight.clone()
        return weight

    def _with_all_digits(self, weight: torch.Tensor, changed: bool) -> torch.Tensor:
        """The stored weight, with what was changed in its rounded form."""
        stored = self._stored().to(weight.device)
        return stored + (weight.float() - stored.to(weight.dtype)) if changed else stored

    def _sum(self, weight: torch.Tensor, acting: Acting, at_once: bool = False) -> torch.Tensor:
        added = self._added(acting, weight.device)
        if at_once and added and weight.device.type == "cpu":
            return added[0].room.sum(weight, added)
        for one in added:
            weight = torch.add(weight.float(), one.delta, alpha=one.factor)
        return weight

    def _kept_sum(self, weight: torch.Tensor, acting: Acting) -> torch.Tensor:
        """The sum in bfloat16, of the last call where the same deltas acted as strongly."""
        if self._kept is None or not _same(self._kept[0], acting):
            with torch.inference_mode(False), torch.no_grad():
                self._kept = acting, self._sum(weight, acting).to(torch.bfloat16)
        return self._kept[1]


def _same(first: Acting, second: Acting) -> bool:
    return len(first) == len(second) and all(
        one.delta is other.delta and one.factor == other.factor
        for one, other in zip(first, second, strict=True)
    )
