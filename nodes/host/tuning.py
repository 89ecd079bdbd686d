"""Everything around a fine-tune that is the host's: what may train, memory, the tuned clone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ...tverase_core.block_mask import BlockMask
from ...tverase_core.concept_set import ConceptSet
from ...tverase_core.finetune import FinetuneConfig
from ...tverase_core.provenance import Provenance
from .denoiser import HostDenoiser, open_denoiser, refuse_patched
from .patching import patched_clone
from .progress import NodeProgress
from .weights import layout_of, wrappable_shapes

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

STORY = "tverase_provenance"  # name of the attachment that travels with a tuned MODEL


@dataclass(frozen=True, slots=True)
class TuningSession:
    """A loaded denoiser, a progress that also draws, and which weights may move."""

    denoiser: HostDenoiser
    progress: Callable[[int, int, str], None]
    trainable: Callable[[str], bool]


@contextmanager
def tuning_session(
    model: ModelPatcher,
    pictures: ConceptSet,
    config: FinetuneConfig,
    mask: BlockMask | None,
    watch: Any,
) -> Iterator[TuningSession]:
    """Load the model for a fine-tune.

    Every refusal (patched or quantised model, no room, old host) comes before the first step.
    """
    refuse_patched(model)
    layout = layout_of(model)
    if mask is not None:
        mask.check(layout.blocks())

    def trainable(key: str) -> bool:
        return mask is None or mask.coefficient(key, layout) > 0

    bar = NodeProgress(watch.picture)

    def progress(done: int, total: int, message: str) -> None:
        bar(done, total, watch.sentence())

    needed = training_bytes(model, pictures, config, trainable)
    with open_denoiser(model, needed) as denoiser:
        yield TuningSession(denoiser, progress, trainable)


def training_bytes(
    model: ModelPatcher,
    pictures: ConceptSet,
    config: FinetuneConfig,
    trainable: Callable[[str], bool],
) -> int:
    """Memory of a fine-tune beyond the model itself: delta, gradient, two Adam moments and the
    average are 20 bytes a trained value; activations grow with the latent size."""
    values = sum(s.numel() for k, s in wrappable_shapes(model).items() if trainable(k))
    if config.rank:
        values = values // 4  # the dense delta and its gradient remain, the moments are small
    part = config.batch_size // config.accumulation
    spots = part * pictures.latents[0, 0].numel()
    width = model.model.diffusion_model.model_channels
    return values * (20 if config.ema else 16) + int(spots * width * 4 * 400)


def tuned_clone(
    model: ModelPatcher, deltas: Mapping[str, torch.Tensor], provenance: Provenance
) -> ModelPatcher:
    """The base with the learned deltas as patches of strength 1, and their story attached."""
    moved = {key: delta for key, delta in deltas.items() if bool(delta.any())}
    clone = patched_clone(model, {1.0: moved})
    if hasattr(clone, "set_attachments"):
        clone.set_attachments(STORY, provenance)
    return clone


def provenance_of(model: ModelPatcher) -> Provenance:
    """The story that a fine-tune attached, or an empty one."""
    found = model.get_attachment(STORY) if hasattr(model, "get_attachment") else None
    return found if found is not None else Provenance()
