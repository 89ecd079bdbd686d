"""A published eraser without training, for comparison: ConceptPrune."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from ...tverase_core.errors import ConfigError, EmptyMaskError
from ...tverase_core.model.layout import ModelLayout
from ...tverase_core.vector.pruned import PRUNED
from ...tverase_core.vector.task_vector import TaskVector
from ..shared.drawing_settings import drawing_of, drawing_widgets
from ..shared.node_output import with_text
from ..shared.prompt_lines import caption_lines, prompt_lines
from ..shared.sockets import CATEGORY, TASK_VECTOR
from ..shared.widgets import socket, text
from .prune_settings import PRUNE_SETTINGS
from .published import STRENGTH_1, baseline_provenance

if TYPE_CHECKING:
    from ...tverase_core.erasers.concept_prune import ColumnNorms, PruneResult

METHOD = "ConceptPrune (arXiv 2405.19237)"


class ConceptPruneNode:
    """ConceptPrune, arXiv 2405.19237."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": socket("MODEL", "The base model."),
                "clip": socket("CLIP", "Its text encoder."),
                "concept": text(
                    "",
                    "What is erased, in a word or two: 'cat', 'Van Gogh'. Stored in the file; "
                    "empty: the first prompt. The prompts decide what is pruned.",
                ),
                **PRUNE_SETTINGS,
                **drawing_widgets(),
            }
        }

    RETURN_TYPES = (TASK_VECTOR,)
    RETURN_NAMES = ("task_vector",)
    OUTPUT_TOOLTIPS = (STRENGTH_1,)
    FUNCTION = "erase"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "ConceptPrune (arXiv 2405.19237), a known eraser without training: it draws prompts with "
        "and without the concept and sets the weights to zero that work harder with "
        "it. Here for comparison."
    )
    SEARCH_ALIASES = ["skilled neurons", "pruning", "wanda", "baseline", "unlearn"]

    def erase(
        self,
        model: Any,
        clip: Any,
        concept: str,
        prompts: str,
        contrast: str,
        ratio: float,
        steps_used: int,
        seed: int,
        pictures_per_prompt: int,
        layers: str,
        **drawing: Any,
    ) -> dict[str, Any]:
        from ...tverase_core.erasers.concept_prune import PruneConfig, concept_prune, prunable_keys
        from ..host.app.progress import NodeProgress
        from ..host.drawing.layer_inputs import early_steps, noise_ladder
        from ..host.model.denoiser import refuse_patched
        from ..host.model.weights import base_weight, fingerprint, layout_of, model_shapes
        from ..host.network.schedule import prediction_of

        refuse_patched(model)
        how = drawing_of(drawing)
        steps = steps_used or early_steps(model, noise_ladder(model, how))
        config = PruneConfig(ratio=ratio, steps_used=steps)
        if steps_used > how.steps:
            raise ConfigError(
                f"steps_used is {steps_used}, but the pictures have {how.steps} sampling steps. "
                "Lower steps_used or raise sampling_steps."
            )
        layout, shapes = layout_of(model), model_shapes(model)
        keys = prunable_keys(shapes, layout, layers)
        pairs = _prompt_pairs(prompts, contrast)
        seeds = [seed + i for i in range(len(pairs) * pictures_per_prompt)]
        norms_of_both = _column_norms(model, clip, keys, pairs, seeds, steps, how)
        read = partial(base_weight, model)
        result = concept_prune(read, keys, *norms_of_both, config, NodeProgress())
        if not result.deltas:
            raise EmptyMaskError(
                "No weight works harder with the concept than without it. Write prompts that "
                "differ in the concept."
            )
        recipe = {
            "method": METHOD,
            "prompts": [list(pair) for pair in pairs],
            "ratio": ratio,
            "steps_used": steps,
            "layers": layers,
            "seed": seed,
            "pictures_per_prompt": pictures_per_prompt,
            **drawing,
        }
        name = concept.strip() or pairs[0][0]
        provenance = baseline_provenance(name, "ConceptPrune", recipe, prediction_of(model))
        vector = TaskVector(result.deltas, fingerprint(model), replace(provenance, content=PRUNED))
        return with_text(_report(result, steps, how.steps, layout, shapes), (vector,))


def _prompt_pairs(prompts: str, contrast: str) -> list[tuple[str, str]]:
    """Each prompt with the concept beside the one without it; one contrast may serve all."""
    lines = prompt_lines(prompts)
    others = caption_lines(contrast, lines, "contrasts")
    return list(zip(lines, others * (len(lines) // len(others)), strict=True))


def _column_norms(
    model: Any,
    clip: Any,
    keys: list[str],
    pairs: list[tuple[str, str]],
    seeds: list[int],
    steps: int,
    settings: Any,
) -> tuple[ColumnNorms, ColumnNorms]:
    """Column norms while drawing the prompts with the concept, and those without, at the same
    seeds: as many seeds of each pair, in turns."""
    from ...tverase_core.erasers.concept_prune import ColumnNorms
    from ..host.app.progress import NodeProgress
    from ..host.drawing.layer_inputs import draw_first_steps, listening, noise_ladder
    from ..host.model.conditioning import encode_texts, to_context

    ladder = noise_ladder(model, settings)
    empty = to_context(model, encode_texts(clip, [""]))
    turns = torch.arange(len(seeds)) % len(pairs)
    bar = NodeProgress()
    sides = []
    for number, side in enumerate(("with the concept", "without it")):
        texts = [pair[number] for pair in pairs]
        context = to_context(model, encode_texts(clip, texts)).pick(turns)
        norms = ColumnNorms()

        def progress(done: int, total: int, words: str, n: int = number, s: str = side) -> None:
            bar(n * total + done, 2 * total, f"{s}: {words}")

        with listening(model, keys, ladder, norms.add):
            draw_first_steps(model, context, empty, seeds, settings, steps, progress)
        sides.append(norms)
    return sides[0], sides[1]


def _report(
    result: PruneResult,
    steps: int,
    of_steps: int,
    layout: ModelLayout,
    shapes: Mapping[str, torch.Size],
) -> str:
    """How much is pruned, in all and by how many steps, then block by block."""
    lines = [
        f"{block}: {count:,} of {size:,} ({count / size:.1%})"
        for block, (count, size) in result.by_block(layout).items()
    ]
    said = result.sentence(sum(shape.numel() for shape in shapes.values()))
    return "\n".join([f"{said} Chosen by the first {steps} of {of_steps} steps.", *lines])
