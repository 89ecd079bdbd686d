"""The pack's nodes, run for one concept: pictures, task vector, strength."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...tverase_core.concept_set import ConceptSet
from ...tverase_core.vector.task_vector import TaskVector
from ..concept.from_images import ConceptSetFromImages
from ..concept.from_prompt import ConceptSetFromPrompt
from ..concept.image_folder import LoadImageFolder
from ..finetune.node import ConceptFinetune
from ..inversion.node import DiverseInversionNode
from ..shared.prompt_lines import PROMPT_MARK
from ..strength.node import AutoStrength
from .base import Base
from .judges import judge_for
from .list_settings import Settings

Say = Callable[[str], None]


class ConceptRun:
    """One concept's stages; its pictures are made once and only if a stage needs them."""

    def __init__(self, base: Base, settings: Settings, judge: str, say: Say):
        self.base, self.settings, self.say = base, settings, say
        self._judge, self._pictures = judge, None

    def pictures(self) -> ConceptSet:
        """The concept set."""
        if self._pictures is None:
            self.say("pictures")
            concept, widgets = self.settings.concept, self.settings.pictures
            if concept.prompts:
                self._pictures = self._drawn(concept.prompts, concept.name)
            else:
                images, _ = LoadImageFolder().load(
                    concept.images, widgets["width"], widgets["height"], widgets["count"]
                )
                self._pictures = ConceptSetFromImages().build(
                    self.base.model,
                    self.base.clip,
                    self.base.vae,
                    [images],
                    concept.name,
                    [widgets["caption"]],
                    widgets["caption_share"],
                )[0]
        return self._pictures

    def vector(self) -> TaskVector:
        """What the fine-tune learned."""
        pictures, retained = self.pictures(), None
        if self.settings.retained:
            self.say("pictures of what must stay")
            prompts = self.settings.retained.prompts
            own = {"caption": PROMPT_MARK, "caption_share": 1.0, "contrast": ""}
            retained = self._drawn(prompts, "what must stay", **own)
        self.say("fine-tune")
        made = ConceptFinetune().tune(
            self.base.model, pictures, retained_set=retained, **self.settings.finetune
        )
        return made["result"][2]

    def strength(self, vector: TaskVector) -> tuple[float, str]:
        """(strength, why): the given one, or that of Diverse Inversion and Auto-Strength."""
        given = self.settings.concept.strength
        if given is not None:
            return given, "given"
        base, pictures = self.base, self.pictures()
        judge = judge_for(self._judge, base, self.settings, pictures)
        parts = (base.model, base.clip, base.vae)
        self.say("inversions")
        found = DiverseInversionNode().invert(*parts, pictures, judge, **self.settings.inversion)
        self.say("strength")
        retained = "\n".join(self.settings.concept.retained)
        strength, report = AutoStrength().choose(
            *parts, vector, found["result"][0], judge, retained=retained, **self.settings.search
        )["result"]
        return strength, report

    def _drawn(self, prompts: tuple[str, ...], concept: str, **changed: Any) -> ConceptSet:
        widgets = {**self.settings.pictures, **changed}
        return ConceptSetFromPrompt().draw(
            self.base.model, self.base.clip, "\n".join(prompts), concept, **widgets
        )[0]
