"""Task vectors: tuned - base, towards the concept, one float32 delta per weight."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..errors import (
    BaseMismatchError,
    EmptyMaskError,
    KeyMismatchError,
    NonFiniteError,
    ShapeMismatchError,
    UnknownKeyError,
    listed,
)
from ..model.block_mask import BlockMask
from ..model.fingerprint import BaseFingerprint, describe
from ..model.layout import ModelLayout
from ..tensors import all_finite, extremes, memory_bytes, tensor_bytes
from .delta_map import KEPT, DeltaMap, stored_delta
from .delta_names import file_name_of
from .provenance import Provenance
from .pruned import PRUNED, only_prunes, pruned_union


@dataclass(frozen=True, slots=True, eq=False)
class TaskVector:
    """A direction in weight space, tuned - base (arXiv 2212.04089, section 2).

    deltas: by weight key (`diffusion_model....` or `text_encoders....`), each of its weight's
    shape. They are float32, CPU, contiguous, sorted by key (bfloat16 ones take half the room,
    see `DeltaMap`); all-zero deltas are dropped, so an absent key means exactly zero. Tensors that
    already have that form are not copied: whoever makes a TaskVector hands them over and no longer
    writes to them.
    Raises NonFiniteError naming the key, and UnknownKeyError for an empty key.
    """

    deltas: Mapping[str, Tensor]
    base: BaseFingerprint
    provenance: Provenance = field(default_factory=Provenance)
    _digest: list[str] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        kept = {}
        for key in sorted(self.deltas):
            if not key:
                raise UnknownKeyError("task vector: a delta has an empty name")
            given = stored_delta(self.deltas, key).detach()
            kind = given.dtype if given.dtype in KEPT else torch.float32
            delta = given.to("cpu", kind).contiguous()
            low, high = extremes(delta)
            if not (math.isfinite(low) and math.isfinite(high)):
                check_finite(delta, f"the delta of {key}")
            if low or high:
                kept[key] = delta
        object.__setattr__(self, "deltas", DeltaMap(kept))

    @classmethod
    def difference(
        cls,
        base: Mapping[str, Tensor],
        tuned: Mapping[str, Tensor],
        fingerprint: BaseFingerprint,
        provenance: Provenance | None = None,
    ) -> TaskVector:
        """tuned - base in float32, key by key; any dtype and device, mappings may be lazy.

        Raises KeyMismatchError (missing: only in base; unexpected: only in tuned),
        ShapeMismatchError, NonFiniteError. Integer tensors (buffers) are left out. Where tuned is
        base with weights set to 0, the vector's content is "pruned".
        """
        missing, unexpected = sorted(set(base) - set(tuned)), sorted(set(tuned) - set(base))
        if missing or unexpected:
            raise KeyMismatchError(
                "base and tuned model have different weights. "
                f"Only in base ({len(missing)}): {listed(missing) or 'none'}. "
                f"Only in tuned ({len(unexpected)}): {listed(unexpected) or 'none'}. "
                "Give two models of the same architecture.",
                missing,
                unexpected,
            )
        deltas, pruned = {}, True
        for key in base:
            old, new = base[key], tuned[key]
            check_shape(key, old.shape, new.shape, "base", "tuned model")
            if not (old.is_floating_point() and new.is_floating_point()):
                continue
            old32, new32 = old.detach().to("cpu", torch.float32), new.detach().cpu().float()
            check_finite(old32, f"{key} in the base")
            check_finite(new32, f"{key} in the tuned model")
            difference = new32 - old32
            if bool(difference.any()):
                deltas[key] = difference
                pruned = pruned and only_prunes(difference, new32)
        provenance = provenance or Provenance()
        if deltas and pruned:
            provenance = replace(provenance, content=PRUNED)
        return cls(deltas, fingerprint, provenance)

    def __len__(self) -> int:
        return len(self.deltas)

    def __add__(self, other: TaskVector) -> TaskVector:
        """Union of keys; of two vectors of pruned weights their `pruned_union`.

        Raises BaseMismatchError, ShapeMismatchError.
        """
        if not isinstance(other, TaskVector):
            return NotImplemented
        base = common_base(self, other)
        check_same_shapes(self, other)
        both = {self.provenance.content, other.provenance.content}
        join = pruned_union if both == {PRUNED} else torch.add
        deltas = dict(self.deltas)
        for key, delta in other.deltas.items():
            deltas[key] = join(deltas[key], delta) if key in deltas else delta
        mine = self.provenance.derived(self.digest())
        return TaskVector(deltas, base, mine.plus(other.provenance.derived(other.digest())))

    def __neg__(self) -> TaskVector:
        return self * -1.0

    def __sub__(self, other: TaskVector) -> TaskVector:
        return self + -other if isinstance(other, TaskVector) else NotImplemented

    def __mul__(self, factor: float) -> TaskVector:
        """Raises NonFiniteError when the factor or a product is not finite."""
        if isinstance(factor, bool) or not isinstance(factor, (int, float)):
            return NotImplemented
        if not math.isfinite(factor):
            raise NonFiniteError(f"task vector times {factor}: expected a finite factor")
        deltas = {key: delta * factor for key, delta in self.deltas.items()}
        provenance = self.provenance.derived(self.digest(), float(factor))
        return TaskVector(deltas, self.base, provenance)

    __rmul__ = __mul__

    def get_ram_usage(self) -> int:
        """Bytes of main memory that the deltas hold; the name is ComfyUI's cache's."""
        return memory_bytes(stored_delta(self.deltas, key) for key in self.deltas)

    def norm(self) -> float:
        """Euclidean length over all deltas, summed in float64."""
        return math.sqrt(sum(_square(delta) for delta in self.deltas.values()))

    def block_norms(self, layout: ModelLayout) -> dict[str, float]:
        """Euclidean length by block, in the layout's order. Raises UnknownKeyError."""
        squares = dict.fromkeys(layout.block_names(self.deltas), 0.0)
        for key, delta in self.deltas.items():
            squares[layout.block(key)] += _square(delta)
        return {block: math.sqrt(square) for block, square in squares.items()}

    def masked(self, mask: BlockMask, layout: ModelLayout) -> TaskVector:
        """Every delta times its mask coefficient. Raises as `mask_coefficients` does."""
        coefficients = mask_coefficients(self.deltas, mask, layout)
        deltas = {
            key: self.deltas[key] if factor == 1 else self.deltas[key] * factor
            for key, factor in coefficients.items()
        }
        return self._part(deltas, f"masked with {mask.to_text()}")

    def changed(self, deltas: Mapping[str, Tensor], step: str) -> TaskVector:
        """A descendant with other deltas; step: what was done, for its history."""
        made = self._part(deltas, step)
        return replace(made, provenance=replace(made.provenance, content=""))

    def _part(self, deltas: Mapping[str, Tensor], step: str) -> TaskVector:
        """The same for deltas that are those of this vector, or multiples of them."""
        return TaskVector(deltas, self.base, self.provenance.derived(self.digest(), step=step))

    def digest(self) -> str:
        """sha256 of the float32 data section that a file of this vector has, in hex."""
        if not self._digest:
            running = hashlib.sha256()
            for key in sorted(self.deltas, key=file_name_of):
                running.update(tensor_bytes(self.deltas[key]))
            self._digest.append(running.hexdigest())
        return self._digest[0]

    def same_deltas(self, other: TaskVector) -> bool:
        """Equal keys and equal values, to the bit."""
        return list(self.deltas) == list(other.deltas) and all(
            torch.equal(delta, other.deltas[key]) for key, delta in self.deltas.items()
        )


def check_shape(
    key: str, expected: torch.Size | tuple[int, ...], got: torch.Size, where: str, what: str
) -> None:
    """Raises ShapeMismatchError unless both shapes are equal."""
    if tuple(expected) != tuple(got):
        raise ShapeMismatchError(
            f"{key}: shape {list(expected)} in the {where}, {list(got)} in the {what}. "
            "They belong to different architectures.",
            key,
            expected,
            got,
        )


def common_base(first: TaskVector, second: TaskVector) -> BaseFingerprint:
    """The base of both, the better known one. Raises BaseMismatchError when there is none."""
    verdict = first.base.compare(second.base)
    told = {first.provenance.prediction, second.provenance.prediction} - {""}
    if len(told) > 1:
        raise BaseMismatchError(
            "these task vectors come from models that predict different things: "
            f"{first.provenance.prediction} and {second.provenance.prediction}. "
            "Only vectors of one base model can be combined."
        )
    if verdict not in ("same", "same_when_rounded", "unverified"):
        raise BaseMismatchError(
            f"these task vectors come from {verdict.replace('_', ' ')}: "
            f"{describe(first.base)} and {describe(second.base)}. "
            "Only vectors of one base model can be combined."
        )
    # Weights that one vector was trained on are known by what they predict; files do not say that.
    return max(
        (first, second),
        key=lambda vector: (
            vector.base.sample_sha256 is not None,
            vector.provenance.prediction != "",
        ),
    ).base


def check_same_shapes(first: TaskVector, second: TaskVector) -> None:
    """Raises ShapeMismatchError when a shared key has two shapes."""
    for key in first.deltas.keys() & second.deltas.keys():
        check_shape(
            key, first.deltas[key].shape, second.deltas[key].shape, "first", "second task vector"
        )


def mask_coefficients(
    keys: Iterable[str], mask: BlockMask, layout: ModelLayout
) -> dict[str, float]:
    """The coefficient of each weight that the mask leaves, in (0, 1].

    Raises UnknownBlockError, UnknownKeyError, and EmptyMaskError when it leaves none.
    """
    mask.check(layout.blocks())
    coefficients = {key: mask.coefficient(key, layout) for key in keys}
    if coefficients and not any(coefficients.values()):
        raise EmptyMaskError(
            f"mask '{mask.to_text()}' selects none of the task vector's weights. "
            "Choose blocks and kinds that the vector has."
        )
    return {key: value for key, value in coefficients.items() if value}


def check_finite(tensor: Tensor, what: str) -> None:
    """Raises NonFiniteError that begins with `what`."""
    if not all_finite(tensor):
        finite = torch.isfinite(tensor)
        raise NonFiniteError(
            f"{what} holds NaN or infinity in {int((~finite).sum())} of {tensor.numel()} values. "
            "Its source is broken or its training diverged: lower the learning rate, or load "
            "another file."
        )


def _square(delta: Tensor) -> float:
    return float(torch.linalg.vector_norm(delta, dtype=torch.float64)) ** 2
