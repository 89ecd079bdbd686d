"""Edits of a CLIP: trial deltas in a private copy of it, and clones that carry them as patches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from ....tverase_core.errors import BaseMismatchError, listed
from ....tverase_core.model.block_mask import BlockMask
from ....tverase_core.model.fingerprint import BaseFingerprint, base_note, check_base
from ....tverase_core.model.layout import TEXT_PREFIX, detect_layout
from ....tverase_core.ports import Context
from ....tverase_core.vector.delta_map import stored_delta
from ....tverase_core.vector.erase import Plan, masked_deltas
from ....tverase_core.vector.task_vector import TaskVector
from ..model.at_use import edits_at_use
from ..model.conditioning import to_context
from ..model.exact import edited_clone
from ..model.weights import sampled_fingerprint
from ..network.attachments import Attachment, attached_to
from ..storage.view import view_of
from .encoder import HostTextEncoder
from .passes import autograd_as_it_is, for_gradients
from .towers import towers_of

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

ARCHITECTURE = "text-encoder-"  # of a fingerprint that is a CLIP's; its towers follow
# Many checkpoints lack these: the host then leaves in them what happened to lie in memory.
UNSURE = ("text_projection", "logit_scale")


class EditableHostTextEncoder(HostTextEncoder):
    """Implements `ports.EditableTextEncoder`: deltas act in the float32 copy."""

    def __init__(self, model: ModelPatcher, clip: Any):
        others = [tower.name for tower in towers_of(clip) if not tower.is_clip]
        if others:
            raise BaseMismatchError(
                f"This CLIP has the text encoders {', '.join(others)}. This node knows those of "
                "Stable Diffusion 1.x, 2.x and XL."
            )
        super().__init__(model, clip, torch.float32)
        self.device = clip.patcher.load_device
        self._stack: list[Attachment] = []

    def weight_shapes(self) -> Mapping[str, torch.Size]:
        return clip_shapes(self._clip)

    def attached(self, deltas: Mapping[str, torch.Tensor]) -> AbstractContextManager[Attachment]:
        advice = "The text encoder has no weight {}. Use the CLIP these deltas were made from."
        return attached_to(self._stack, deltas, self.weight_shapes(), advice)

    def encode(self, texts: Sequence[str]) -> Context:
        """As the frozen encoder's; with deltas attached and autograd enabled, gradients flow."""
        with autograd_as_it_is():
            self._ready()  # first: the host loads parameters, and what `_edited` puts is none
            if not (self._stack and torch.is_grad_enabled()):
                with self._edited():
                    return super().encode(texts)
            with self._edited(), for_gradients(self._copy, tuple(self._towers.values())):
                return to_context(self._model, self._encoded(texts))

    def encode_with(
        self, vectors: Mapping[str, torch.Tensor], template: str | Sequence[str]
    ) -> Context:
        with autograd_as_it_is():
            self._ready()
            with self._edited():
                return super().encode_with(vectors, template)

    @contextmanager
    def _edited(self) -> Iterator[None]:
        """W + scale * delta stand where the copy's parameters stand, while it computes."""
        kept: list[tuple[torch.nn.Module, str, torch.nn.Parameter]] = []
        try:
            for attachment in self._stack:
                for key, delta in attachment.deltas.items():
                    path, _, name = key.removeprefix(TEXT_PREFIX).rpartition(".")
                    module = self._copy.get_submodule(path)
                    weight = module._parameters[name]
                    kept.append((module, name, weight))
                    added = delta.to(weight.device)
                    module._parameters[name] = torch.add(weight, added, alpha=attachment.scale)
            yield
        finally:
            for module, name, weight in reversed(kept):
                module._parameters[name] = weight


def refuse_patched_clip(clip: Any) -> None:
    """Raise when the CLIP is already edited: a vector learned on top is not the base's."""
    at_use = edits_at_use(clip.patcher)
    if at_use:
        raise BaseMismatchError(
            f"This CLIP already carries edits that act when it computes ({listed(at_use)}), for "
            "example a bypassed LoRA. Connect the CLIP straight from the checkpoint loader."
        )
    if clip.patcher.patches:
        raise BaseMismatchError(
            f"This CLIP already carries patches on {len(clip.patcher.patches)} weights, for "
            "example a LoRA or an erasure. Connect the CLIP straight from the checkpoint loader."
        )


def clip_fingerprint(clip: Any) -> BaseFingerprint:
    """Who this text encoder is: its towers, digest of names and shapes, hash of a sample."""
    shapes = view_of(clip.patcher, "").shapes
    keys = sorted(key for key in shapes if not any(part in key for part in UNSURE))
    towers = sorted({key.split(".")[0].removeprefix("clip_") for key in keys})
    family = ARCHITECTURE + "-".join(towers)
    return sampled_fingerprint(clip.patcher, family, keys, "", TEXT_PREFIX)


def checked_clip_deltas(
    clip: Any, task_vector: TaskVector, *, allow_other_weights: bool
) -> tuple[Plan, str]:
    """(`masked_deltas` of the vector's text-encoder part for this CLIP, what the user should know).

    Raises BaseMismatchError for a vector without such a part or of another base, and what
    `masked_deltas` raises.
    """
    stored, notes, shapes = task_vector.deltas, [], clip_shapes(clip)
    own = {key: stored_delta(stored, key) for key in stored if key.startswith(TEXT_PREFIX)}
    if not own:
        raise BaseMismatchError(
            "This task vector has no weight of a text encoder, only of a diffusion model. Use "
            "Apply Negated TV, which takes the MODEL."
        )
    part = replace(task_vector, deltas=own)
    deltas = masked_deltas(part, BlockMask.full(), detect_layout(shapes), shapes)
    if len(part) < len(task_vector):
        notes.append(
            f"Only the {len(part)} text-encoder weights of the vector's {len(task_vector)} are "
            "used here."
        )
    if part.base.architecture.startswith(ARCHITECTURE):
        mine = clip_fingerprint(clip)
        verdict = check_base(part.base, mine, allow_other_weights=allow_other_weights)
        notes += [note for note in (base_note(verdict, part.base, mine),) if note]
    else:
        notes.append(
            "The vector says which diffusion model it is of, not which CLIP: only the names and "
            "shapes of its weights were checked."
        )
    return deltas, " ".join(notes)


def edited_clip(clip: Any, plan: Plan, precision: str) -> tuple[Any, str]:
    """`exact.edited_clone` for a CLIP. plan: by `text_encoders....` key, grouped by scale. The
    input CLIP and its weights are not touched."""
    named = {
        scale: {key.removeprefix(TEXT_PREFIX): delta for key, delta in deltas.items()}
        for scale, deltas in plan.items()
    }
    made = clip.clone()
    made.patcher, note = edited_clone(clip.patcher, named, precision, "")
    return made, note


def clip_shapes(clip: Any) -> dict[str, torch.Size]:
    """Shape of every floating-point weight by our key."""
    return {TEXT_PREFIX + key: shape for key, shape in view_of(clip.patcher, "").shapes.items()}
