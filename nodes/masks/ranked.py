"""Auto Block Mask: which blocks erase most for the least harm."""

from __future__ import annotations

from typing import Any

import torch

from ...tverase_core.concept_set import ConceptSet
from ...tverase_core.inversion.inversion_set import InversionSet
from ...tverase_core.masks.config import RankingConfig
from ...tverase_core.masks.ranking import BlockRanking, Groups, group_keys, rank_blocks
from ...tverase_core.model.layout import ModelLayout
from ...tverase_core.vector.task_vector import TaskVector
from ..pictures.block_map import block_map, value_map
from ..shared.drawing_settings import drawing_of, drawing_widgets
from ..shared.node_output import with_pictures
from ..shared.retained_prompts import parse_retained
from ..shared.sockets import BLOCK_MASK, CATEGORY, CONCEPT_SET, INVERSION_SET, TASK_VECTOR
from ..shared.widgets import socket
from ..strength.strength_settings import SETTINGS as AUTO_STRENGTH
from .ranking_settings import SETTINGS


class AutoBlockMask:
    """Ranks blocks and keeps the fewest that erase enough."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": socket("MODEL", "The base model."),
                "clip": socket("CLIP", "Its text encoder."),
                "task_vector": socket(TASK_VECTOR, "The vector whose blocks are ranked."),
                "concept_set": socket(CONCEPT_SET, "Pictures of the concept."),
                "inversion_set": socket(INVERSION_SET, "Triggers that should stop."),
                **SETTINGS,
                **drawing_widgets(),
            },
            "optional": {"other_weights": AUTO_STRENGTH["other_weights"]},
        }

    RETURN_TYPES = (BLOCK_MASK, "STRING")
    RETURN_NAMES = ("block_mask", "report")
    OUTPUT_TOOLTIPS = (
        "For Auto-Strength and Apply Negated TV.",
        "The ranking, and what the subset gains and harms.",
    )
    FUNCTION = "rank"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Measures what each block of the task vector erases and what it harms, shows the ranking "
        "on a map of the model, and keeps the fewest blocks that erase enough. Run Auto-Strength "
        "with this mask."
    )
    SEARCH_ALIASES = ["block weight", "layers", "auto mask", "lbw"]

    def rank(
        self,
        model: Any,
        clip: Any,
        task_vector: TaskVector,
        concept_set: ConceptSet,
        inversion_set: InversionSet,
        **widgets: Any,
    ) -> dict[str, Any]:
        from ..host.app.progress import NodeProgress
        from ..host.drawing.studio import open_studio
        from ..host.model.edits import checked_deltas, on_device, plan_bytes
        from ..host.model.own_pictures import require_own_pictures
        from ..host.model.weights import layout_of, model_shapes
        from ..host.network.latents import scaled

        require_own_pictures(model, concept_set)
        retained = parse_retained(widgets["retained"], inversion_set.concept)
        layout = layout_of(model)
        groups = group_keys(task_vector.deltas, layout, widgets["by_kind"])
        config = RankingConfig(
            strength=widgets["strength"],
            fraction=widgets["fraction"],
            probes=widgets["probes"],
            seed=widgets["seed"] % 2**32,
        )
        allow = widgets.get("other_weights") == "allow"
        deltas = checked_deltas(model, task_vector, None, allow_other_weights=allow)
        triggers = ranking_triggers(inversion_set, widgets["most_triggers"], widgets["seed"])
        loading = {"purpose": "Auto Block Mask", "extra_memory_bytes": plan_bytes(deltas)}
        with open_studio(model, clip, None, drawing_of(widgets), **loading) as studio:
            context = studio.encoder.encode(retained.prompts)
            rows = torch.arange(config.probes) % len(retained.prompts)
            seeds = [widgets["seed"] + i for i in range(config.probes)]
            drawn = studio.sampler.latents(context.pick(rows), seeds)
            found = rank_blocks(
                studio.denoiser,
                on_device(deltas, studio.denoiser.device),
                groups,
                concept_set.latents,
                triggers.contexts(studio.encoder),
                scaled(model, drawn),
                context,
                config,
                NodeProgress(),
            )
        mask = found.mask(groups, layout)
        measured_with = (
            f"Measured with {len(triggers)} of {len(inversion_set)} embeddings; Auto-Strength with "
            "the same `seed` and its default `tuning_share` holds none of them out."
        )
        text = "\n".join([*ranking_lines(found), measured_with, *retained.warnings])
        pictures = {
            "ranking": ranking_map(found, groups, layout),
            "mask": block_map(mask, layout, {k: 0 for k in model_shapes(model)}),
        }
        return with_pictures(pictures, (mask, text), text)


def ranking_triggers(inversion_set: InversionSet, most: int, seed: int) -> InversionSet:
    """Up to `most` embeddings that Auto-Strength tunes with at this seed and its default share.

    The others it may hold out, and what checks an erasure must not have chosen its blocks. They
    are the first of the split's own order, so that a smaller share holds them out only when it
    tunes with fewer than these. A set of one is never split. Raises InversionError.
    """
    usable = inversion_set.require_valid()
    if len(usable) < 2:
        return usable
    tuning, _ = usable.split(AUTO_STRENGTH["tuning_share"][1]["default"], seed)
    return usable.split(min(most, len(tuning)) / len(usable), seed)[0]


def ranking_lines(found: BlockRanking) -> list[str]:
    """The ranking in plain lines, best first."""
    lines = [
        f"Kept {len(found.chosen)} of {len(found.blocks)}: {', '.join(found.chosen)}",
        f"At equal strength they erase {found.share_of_gain:.0%} as much as the whole vector and "
        f"harm {found.share_of_damage:.0%} as much.",
        "Erasure per harm, best first:",
    ]
    for place, i in enumerate(found.order, 1):
        lines.append(
            f"  {place}. {found.blocks[i]}: gain {found.gain[i]:.4g}, harm {found.damage[i]:.4g}"
        )
    return lines


def ranking_map(found: BlockRanking, groups: Groups, layout: ModelLayout) -> Any:
    """Ranks on the map of the model: the best has the highest value."""
    count = len(found.blocks)
    values = {}
    for place, i in enumerate(found.order):
        for key in groups[found.blocks[i]]:
            values[layout.locate(key)] = (count - place) / count
    blocks = [b for b in layout.blocks() if any(at[0] == b for at in values)]
    return value_map(values, blocks, "Erasure per harm", "rank, 1 is best")
