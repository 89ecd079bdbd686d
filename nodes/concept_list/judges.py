"""The judge of an automatic strength: the demo's, or one fitted to pictures the model draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ...tverase_core.concept_set import ConceptSet
from ..concept.from_prompt import ConceptSetFromPrompt
from ..judging.judges import DemoJudgeNode, JudgeFromExamples
from .base import Base
from .plan import DEMO

if TYPE_CHECKING:
    from .list_settings import Settings

EXAMPLES = 16  # pictures of each name


def judge_for(choice: str, base: Base, settings: Settings, pictures: ConceptSet) -> Any:
    """A judge that knows the concept and every retained name.

    choice: "demo", or a file in models/clip_vision. For the latter each name's examples are
    pictures of the model's own, and its counter-examples those of all other names.
    Raises JudgeError when the names cannot be told apart.
    """
    if choice == DEMO:
        return DemoJudgeNode().load()[0]
    from ..host.app.stock_loaders import load_clip_vision

    features, judge = load_clip_vision(choice), None
    examples = _examples(base, settings, pictures)
    for name, own in examples.items():
        others = torch.cat([drawn for other, drawn in examples.items() if other != name])
        judge = JudgeFromExamples().fit(features, name, [own], [others], judge)[0]
    return judge


def _examples(base: Base, settings: Settings, pictures: ConceptSet) -> dict[str, torch.Tensor]:
    """Pictures float [n, H, W, 3] by name, the concept first."""
    from ..host.network.latents import decoded, with_time, without_time

    latents = with_time(base.model, pictures.latents[:EXAMPLES])
    own = without_time(base.model.model.process_latent_out(latents))
    examples = {settings.concept.name: decoded(base.vae, own)}
    retained = settings.retained
    for name in dict.fromkeys(retained.concepts if retained else ()):
        pairs = zip(retained.prompts, retained.concepts, strict=True)
        prompts = "\n".join(prompt for prompt, known in pairs if known == name)
        widgets = {**settings.pictures, "count": EXAMPLES}
        drawn = ConceptSetFromPrompt().draw(base.model, base.clip, prompts, name, **widgets)[1]
        examples[name] = decoded(base.vae, without_time(drawn["samples"]))
    return examples
