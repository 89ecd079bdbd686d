"""Everything around a fine-tune that is the host's: what may train, memory, the tuned clone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from ....tverase_core.concept_set import ConceptSet
from ....tverase_core.finetuning.config import FinetuneConfig
from ....tverase_core.finetuning.memory_plan import MemoryPlan
from ....tverase_core.finetuning.train import Checkpoints, OptimizerMaker, finetune_job
from ....tverase_core.model.block_mask import BlockMask
from ....tverase_core.vector.provenance import Provenance
from ....tverase_core.vector.task_vector import TaskVector
from ..app.file_kinds import TASK_VECTORS
from ..app.progress import NodeProgress
from ..app.version import require_training
from ..model.denoiser import HostDenoiser, open_denoiser, refuse_patched
from ..model.own_pictures import require_own_pictures
from ..model.patching import patched_clone
from ..model.weights import fingerprint, layout_of, trainable_shapes
from ..storage.view import refuse_quantised
from .adamw_8bit import eight_bit_adamw, require_eight_bit
from .identity import Description
from .peak import Peak, measured_peak
from .plan import Saving, fitting_plan
from .recompute import recomputed_blocks
from .unfinished import Unfinished

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

PROVENANCE = "tverase_provenance"  # name of the attachment that travels with a tuned MODEL


@dataclass(frozen=True, slots=True)
class TuningSession:
    """A loaded denoiser and what `finetune` needs beside it.

    plan: the memory estimate; peak: what was used beyond the model, complete when the session is
    over.
    """

    denoiser: HostDenoiser
    progress: Callable[[int, int, str], None]
    checkpoints: Checkpoints
    make_optimizer: OptimizerMaker | None
    plan: MemoryPlan
    peak: Peak


def checked_config(
    model: ModelPatcher,
    pictures: ConceptSet,
    config: FinetuneConfig,
    mask: BlockMask | None,
    retained: ConceptSet | None,
    checkpoint_every: int,
) -> FinetuneConfig:
    """The config with the mask in it; every refusal but that of too little memory (patched or
    quantised model, old host, pictures of another one, missing optimizer) is made here."""
    require_training()
    refuse_patched(model)
    refuse_quantised(model, "Concept Fine-tune")
    for given in filter(None, (pictures, retained)):
        require_own_pictures(model, given)
    require_eight_bit(config, checkpoint_every)
    if mask is None:
        return config
    layout = layout_of(model)
    mask.check(layout.blocks())
    return replace(config, trainable=lambda key: mask.coefficient(key, layout) > 0)


def tuning_job(
    model: ModelPatcher,
    pictures: ConceptSet,
    config: FinetuneConfig,
    retained: ConceptSet | None = None,
) -> str:
    """Names the fine-tune of the weights that `config` allows, of this model on these pictures."""
    trained = (k for k, s in trainable_shapes(model).items() if config.allows(k, len(s)))
    return finetune_job(config, pictures, trained, Description(model).digest(), retained)


@contextmanager
def tuning_session(
    model: ModelPatcher,
    pictures: ConceptSet,
    config: FinetuneConfig,
    watch: Any,
    *,
    job: str,
    saving: Saving,
    checkpoint_every: int,
) -> Iterator[TuningSession]:
    """Load the model for a fine-tune. config: a `checked_config`. job: its `tuning_job`.

    A fine-tune that does not fit is refused before the first step.
    """
    plan = fitting_plan(model, pictures, config, saving)
    bar = NodeProgress(watch.picture)
    bar(0, config.steps, f"memory: {plan.sentence()}")

    def progress(done: int, total: int, message: str) -> None:
        bar(done, total, watch.sentence())

    make = eight_bit_adamw if config.optimizer == "adamw8bit" else None
    with ExitStack() as stack:
        unfinished = stack.enter_context(Unfinished(job if checkpoint_every else "", TASK_VECTORS))
        opened = open_denoiser(model, plan.on(model.load_device), autocast=True)
        denoiser = stack.enter_context(opened)
        if plan.recompute:
            stack.enter_context(recomputed_blocks(denoiser.patcher.model.diffusion_model))
        peak = stack.enter_context(measured_peak(denoiser.device))
        if unfinished.state:
            watch.go_on(unfinished.state.losses.tolist())
        checkpoints = Checkpoints(checkpoint_every, unfinished.state, unfinished.save)
        yield TuningSession(denoiser, progress, checkpoints, make, plan, peak)


def learned_vector(
    model: ModelPatcher, deltas: Mapping[str, torch.Tensor], provenance: Provenance
) -> TaskVector:
    """What Extract Task Vector would find between the base and its `tuned_clone`, to the bit."""
    moved = {key: delta for key, delta in deltas.items() if bool(delta.any())}
    return TaskVector(moved, fingerprint(model), provenance)


def tuned_clone(model: ModelPatcher, vector: TaskVector) -> ModelPatcher:
    """The base with the vector's deltas as patches of strength 1, its provenance attached."""
    clone = patched_clone(model, {1.0: vector.deltas})
    if hasattr(clone, "set_attachments"):
        clone.set_attachments(PROVENANCE, vector.provenance)
    return clone


def provenance_of(model: ModelPatcher) -> Provenance:
    """What a fine-tune attached, or an empty one."""
    found = model.get_attachment(PROVENANCE) if hasattr(model, "get_attachment") else None
    return found if found is not None else Provenance()
