"""Learn the concept: MODEL in, tuned MODEL out, the base untouched."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...tverase_core.concept_set import ConceptSet
from ...tverase_core.finetuning.config import FinetuneConfig
from ...tverase_core.finetuning.train import FinetuneResult, FinetuneStep, finetune
from ...tverase_core.model.block_mask import BlockMask
from ...tverase_core.vector.provenance import Provenance
from ..pictures.loss_curve import loss_curve
from ..shared.kept_work import FINISHED_WORK
from ..shared.node_output import with_pictures
from ..shared.sockets import BLOCK_MASK, CATEGORY, CONCEPT_SET, TASK_VECTOR
from ..shared.widgets import socket
from .finetune_settings import (
    ADDITIONS,
    MORE_SETTINGS,
    SETTINGS,
    WHEN,
    finetune_config,
)
from .finished import FORM, FinishedFinetune
from .notes import memory_text, rank_note

if TYPE_CHECKING:
    from ..host.training.plan import Saving

PURPOSE = "Concept Fine-tune"


class _LossWatch:
    """The losses so far, and sentences and pictures made of them."""

    def __init__(self, concept: str, steps: int):
        self.concept, self.steps, self.losses = concept, steps, []
        self._began, self._before = time.monotonic(), 0

    def go_on(self, losses: Sequence[float]) -> None:
        """The losses of a fine-tune that was stopped and now goes on."""
        self.losses, self._before = [*losses], len(losses)

    def on_step(self, step: FinetuneStep) -> None:
        self.losses.append(step.loss)

    def picture(self) -> Any:
        title = f"Learning {self.concept!r}"
        return loss_curve(self.losses, self.steps, title) if self.losses else None

    def sentence(self) -> str:
        done = len(self.losses)
        if done == self._before:
            return f"step {done + 1} of {self.steps} comes first"
        left = (time.monotonic() - self._began) / (done - self._before) * (self.steps - done)
        return f"step {done} of {self.steps}, loss {self.losses[-1]:.4f}, {left:.0f} s left"


class ConceptFinetune:
    """Fine-tunes a clone of the MODEL on the concept set."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": socket("MODEL", "The base model, straight from the checkpoint loader."),
                "concept_set": socket(CONCEPT_SET, "Pictures of what will be erased."),
                **SETTINGS,
            },
            "optional": {
                "block_mask": socket(
                    BLOCK_MASK, "Train only these blocks. Not connected: all of the model."
                ),
                **MORE_SETTINGS,
                "retained_set": socket(
                    CONCEPT_SET,
                    "Optional: pictures of what must stay, from Concept Set from "
                    "Prompt with the caption {prompt}. The vector then harms them less when it "
                    "is subtracted. Not in the paper.",
                ),
                **ADDITIONS,
                **FINISHED_WORK,
            },
        }

    RETURN_TYPES = ("MODEL", "LOSS_MAP", TASK_VECTOR)
    RETURN_NAMES = ("tuned", "loss_map", "task_vector")
    OUTPUT_TOOLTIPS = (
        "The tuned model: it draws the concept more readily. Connect to Extract Task Vector, or "
        "to a KSampler to see what was learned.",
        "Losses, for the stock Plot Loss Graph node.",
        "Tuned minus base: the same vector that Extract Task Vector gives.",
    )
    FUNCTION = "tune"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Teaches a copy of the model the concept, by default under empty captions as in the paper. "
        "The base model is not changed. Needs ComfyUI 0.3.41 or newer and a text-to-image "
        "model: Stable Diffusion 1, 2, XL, or one of flow matching."
    )
    SEARCH_ALIASES = ["train", "erase concept", "unlearn", "remove concept", "forget concept"]

    def tune(
        self,
        model: Any,
        concept_set: ConceptSet,
        block_mask: BlockMask | None = None,
        retained_set: ConceptSet | None = None,
        **widgets: Any,
    ) -> dict[str, Any]:
        from ..host.network.kinds import distilled_note
        from ..host.training.finished import finished_work
        from ..host.training.plan import Saving, automatic_rank
        from ..host.training.session import checked_config, tuned_clone, tuning_job

        every = widgets.get("checkpoint_every", 0)
        config = finetune_config(widgets, automatic_rank(model))
        config = checked_config(model, concept_set, config, block_mask, retained_set, every)
        when = [
            WHEN[widgets.get(k, "when needed")]
            for k in ("gradient_checkpointing", "fused_backward")
        ]
        saving = Saving.of(*when, config, retained_set)
        job = tuning_job(model, concept_set, config, retained_set)
        kept = finished_work(FORM, widgets.get("finished_work", ""), model, PURPOSE, lambda: [job])
        made, memory = kept.found(), ""
        if made is None:
            asked = model, concept_set, config, retained_set
            made, memory = self._trained(*asked, saving, every, job)
            kept.keep(made)
        notes = (memory, kept.note, rank_note(widgets, config), distilled_note(model))
        picture = loss_curve(made.losses, config.steps, f"Learning {concept_set.concept!r}")
        outputs = (tuned_clone(model, made.vector), {"loss": list(made.losses)}, made.vector)
        return with_pictures({"loss": picture}, outputs, "\n".join(filter(None, notes)))

    def _trained(
        self,
        model: Any,
        concept_set: ConceptSet,
        config: FinetuneConfig,
        retained_set: ConceptSet | None,
        saving: Saving,
        every: int,
        job: str,
    ) -> tuple[FinishedFinetune, str]:
        """What was learned, and what memory was used."""
        from ..host.network.schedule import prediction_of
        from ..host.training.session import learned_vector, tuning_session

        watch = _LossWatch(concept_set.concept, config.steps)
        with tuning_session(
            model,
            concept_set,
            config,
            watch,
            job=job,
            saving=saving,
            checkpoint_every=every,
        ) as session:
            result = finetune(
                session.denoiser,
                concept_set,
                config,
                session.progress,
                watch.on_step,
                retained=retained_set,
                checkpoints=session.checkpoints,
                make_optimizer=session.make_optimizer,
                fused=session.plan.fused,
            )
        origin = provenance(result, prediction_of(model), retained_set)
        made = FinishedFinetune(learned_vector(model, result.deltas, origin), result.losses)
        estimate = session.plan.on(session.denoiser.device)
        return made, memory_text(session.plan, estimate, session.peak.extra)


def provenance(
    result: FinetuneResult, prediction: str, retained: ConceptSet | None = None
) -> Provenance:
    """What the task vector's file will tell of this fine-tune."""
    return Provenance(
        concepts=(result.concept,),
        recipe={
            "method": "concept fine-tune (arXiv 2404.03631)",
            **result.config.recipe(),
            "concept_set": result.concept_digest,
            "retained_set": retained.digest if retained else None,
            "last_loss": round(result.losses[-1], 6),
        },
        title=f"{result.concept} task vector",
        prediction=prediction,
        tags=("task-vector", "concept-erasure"),
    )
