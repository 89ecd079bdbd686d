"""UCE's debiasing: let prompts show several attributes in given shares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import torch

from ...tverase_core.errors import JudgeError
from ...tverase_core.judging.prototype_judge import check_names
from ...tverase_core.judging.scoring import HIT, draw, judged
from ...tverase_core.vector.task_vector import TaskVector
from ..shared.drawing_settings import drawing_of, drawing_widgets
from ..shared.node_output import with_text
from ..shared.prompt_lines import prompt_lines
from ..shared.sockets import CATEGORY, JUDGE, TASK_VECTOR
from ..shared.widgets import socket
from .debias_words import report, shares_of
from .published import STRENGTH_1, baseline_provenance
from .uce import preserved_names
from .uce_settings import DEBIAS_SETTINGS

METHOD = "UCE, debiasing (arXiv 2308.14761)"
Deltas = Mapping[str, torch.Tensor]


class UceDebiasNode:
    """Unified Concept Editing for debiasing, arXiv 2308.14761."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": socket("MODEL", "The base model."),
                "clip": socket("CLIP", "Its text encoder."),
                "vae": socket("VAE", "Its VAE, to draw what is counted."),
                "judge": socket(JUDGE, "Tells which of the attributes is in a picture."),
                **DEBIAS_SETTINGS,
                **drawing_widgets(),
            }
        }

    RETURN_TYPES = (TASK_VECTOR, "STRING")
    RETURN_NAMES = ("task_vector", "report")
    OUTPUT_TOOLTIPS = (STRENGTH_1, "The shares in each round.")
    FUNCTION = "edit"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "UCE's debiasing (arXiv 2308.14761): draws pictures of the prompts, counts which attribute "
        "each shows, and edits cross-attention in closed form until the shares are as wanted."
    )
    SEARCH_ALIASES = ["unified concept editing", "bias", "fairness", "baseline"]

    def edit(
        self,
        model: Any,
        clip: Any,
        vae: Any,
        judge: Any,
        prompts: str,
        attributes: str,
        preserve: str,
        rounds: int,
        pictures_per_prompt: int,
        tolerance: float,
        seed: int,
        keep: float,
        preserve_weight: float,
        **drawing: Any,
    ) -> dict[str, Any]:
        from ...tverase_core.erasers.uce import UceConfig, context_keys
        from ...tverase_core.erasers.uce_debias import DebiasConfig, debias
        from ..host.app.progress import NodeProgress
        from ..host.drawing.studio import open_studio
        from ..host.model.denoiser import refuse_patched
        from ..host.model.weights import base_weight, fingerprint, layout_of, model_shapes

        refuse_patched(model)
        config, (names, wanted) = DebiasConfig(rounds, tolerance), shares_of(attributes)
        check_names(judge, names)
        lines = prompt_lines(prompts)
        kept = preserved_names(preserve, [*lines, *names])
        keys = context_keys(model_shapes(model), layout_of(model))
        stored = {key: base_weight(model, key) for key in keys}
        scale = UceConfig(keep, preserve=preserve_weight)
        with open_studio(model, clip, vae, drawing_of(drawing), purpose=METHOD) as studio:
            solve = closed_form(studio.encoder, stored, lines, names, kept, scale)
            seeds = fresh_seeds(seed, pictures_per_prompt)
            shares = counted(studio, judge, lines, names, seeds)
            made = debias(solve, shares, len(lines), wanted, config, NodeProgress())
            prediction = studio.denoiser.schedule.prediction
        recipe = {
            "method": METHOD,
            "prompts": list(lines),
            "attributes": dict(zip(names, wanted, strict=True)),
            "preserve": kept,
            **{"rounds": rounds, "tolerance": tolerance, "seed": seed},
            **{"pictures_per_prompt": pictures_per_prompt, "scales": made.scales.tolist()},
            **{"keep": keep, "preserve_weight": preserve_weight, **drawing},
        }
        told = baseline_provenance(", ".join(lines), "UCE", recipe, prediction)
        text = report(made, lines, names)
        vector = TaskVector(made.deltas, fingerprint(model, prediction), told)
        return with_text(text, (vector, text))


def closed_form(
    encoder: Any,
    stored: Deltas,
    prompts: Sequence[str],
    names: Sequence[str],
    kept: Sequence[str],
    config: Any,
) -> Callable[[torch.Tensor], Deltas]:
    """UCE whose guides are the prompts' own contexts plus the attributes' times the scales."""
    from ...tverase_core.erasers.uce import uce
    from ...tverase_core.erasers.uce_rows import last_words

    tower = next(iter(encoder.widths()))
    own, added, preserved = (last_words(encoder, texts, tower) for texts in (prompts, names, kept))

    def solve(scales: torch.Tensor) -> Deltas:
        guides = own.double() + scales @ added.to("cpu", torch.float64)
        return uce(stored.__getitem__, list(stored), own, guides, preserved, config)

    return solve


def fresh_seeds(seed: int, each: int) -> Iterator[range]:
    """The seeds of one round after the other: none comes twice."""
    return (range(first, first + each) for first in count(seed, each))


def counted(
    studio: Any,
    judge: Any,
    prompts: Sequence[str],
    names: Sequence[str],
    seeds: Iterator[range],
) -> Callable[[Deltas], torch.Tensor]:
    """Draws and counts: of each prompt, the share of pictures that show an attribute most."""

    def measure(deltas: Deltas) -> torch.Tensor:
        rows, drawn = list[torch.Tensor](), next(seeds)
        with studio.denoiser.attached(
            {key: delta.to(studio.denoiser.device) for key, delta in deltas.items()}
        ) as attachment:
            attachment.scale = -1.0
            for prompt in prompts:
                pictures = draw(studio.sampler, studio.encoder.encode([prompt]), drawn)
                scores = torch.stack([judged(judge, pictures, name) for name in names], 1)
                if float(scores.max()) < HIT:
                    raise JudgeError(
                        f"This judge sees none of {', '.join(names)} in {len(drawn)} pictures of "
                        f"{prompt!r} (highest score {float(scores.max()):.2f}, needed {HIT}), so "
                        "there is nothing to count. Check the names, the prompt and the judge."
                    )
                best = scores.argmax(1)
                rows.append(torch.bincount(best, minlength=len(names)) / len(drawn))
        return torch.stack(rows)

    return measure
