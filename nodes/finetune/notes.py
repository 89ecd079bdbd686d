"""What Concept Fine-tune says on the node when it is done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...tverase_core.finetuning.config import FinetuneConfig
from ...tverase_core.finetuning.memory_plan import GIB, MemoryPlan


def memory_text(plan: MemoryPlan, estimate: int, used: int) -> str:
    """The estimate beside what was used, in words; both beyond the model, in bytes."""
    how = "with gradient checkpointing" if plan.recompute else "without gradient checkpointing"
    how += " and with a fused backward pass" if plan.fused else ""
    return (
        f"Beyond the model {used / GIB:.2f} GiB were used, {estimate / GIB:.2f} estimated.\n"
        f"That is {how}: {plan.sentence()}."
    )


def rank_note(widgets: Mapping[str, Any], config: FinetuneConfig) -> str:
    """What to know where the node itself chose a rank."""
    if widgets["rank"] >= 0 or not config.rank:
        return ""
    return (
        f"This model is so large that rank {config.rank} was trained, not full weights; "
        "a learning_rate near 1e-4 suits a rank."
    )
