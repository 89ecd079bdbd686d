"""Concept Inversion Attack: search a MODEL itself for what brings the concept back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ...tverase_core.concept_set import ConceptSet
from ...tverase_core.errors import InversionError
from ...tverase_core.inversion.attack import (
    Leak,
    check_words,
    concept_inversion,
    judged_attack,
    judged_settings,
    require_same_attack,
)
from ...tverase_core.inversion.config import InversionConfig
from ...tverase_core.inversion.diverse import Validation
from ...tverase_core.inversion.inversion_set import InversionSet
from ...tverase_core.judging.prototype_judge import check_names
from ...tverase_core.judging.scoring import HIT, check_judge, draw, judged
from ..pictures.figure import to_tensor
from ..pictures.inversion_grid import inversion_grid
from ..shared.drawing_settings import drawing_of, drawing_widgets
from ..shared.node_output import with_pictures
from ..shared.sockets import CATEGORY, CONCEPT_SET, INVERSION_SET, JUDGE
from ..shared.widgets import socket
from .attack_report import invalid_text, labels, leak_text
from .attack_settings import ATTACK_SETTINGS, attack_config
from .text_memory import announced_memory

PURPOSE = "Concept Inversion Attack"
CHECK_SEEDS = 800_000_000  # far from the seeds of Diverse Inversion, tuning and verification


class ConceptInversionAttack:
    """The attack of arXiv 2308.01508 on a MODEL, beside the same attack on its base."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        reused = (
            "This node's own `base_attack` from another run with the same settings, so that the "
            "base is not attacked again."
        )
        return {
            "required": {
                "model": socket("MODEL", "The MODEL to attack, erased by whatever method."),
                "base": socket("MODEL", "The MODEL that it was made from, unedited."),
                "clip": socket("CLIP", "The text encoder that `model` is used with."),
                "vae": socket("VAE", "Its VAE, to draw what each attack finds."),
                "concept_set": socket(CONCEPT_SET, "Pictures of the concept, drawn by the base."),
                "judge": socket(JUDGE, "Tells whether the concept is in a picture."),
                **ATTACK_SETTINGS,
                **drawing_widgets(),
            },
            "optional": {
                "base_clip": socket(
                    "CLIP", "The unedited text encoder, where `clip` is an erased one."
                ),
                "base_attack": socket(INVERSION_SET, reused),
            },
        }

    RETURN_TYPES = (INVERSION_SET, INVERSION_SET, "IMAGE", "STRING")
    RETURN_NAMES = ("attack", "base_attack", "pictures", "report")
    OUTPUT_TOOLTIPS = (
        "What the attacks on `model` found, to save or export.",
        "What the attacks on `base` found, to use again.",
        "What each attack draws, on both models.",
        "The leak rate with its interval, beside the base's own.",
    )
    FUNCTION = "attack"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Concept Inversion (arXiv 2308.01508): searches an erased MODEL for embeddings that bring "
        "the concept back, and counts how often they do. The same search on the base must succeed, "
        "or the attack is invalid and proves nothing."
    )
    SEARCH_ALIASES = ["adversarial", "circumventing", "red team", "robustness", "leak"]

    def attack(
        self,
        model: Any,
        base: Any,
        clip: Any,
        vae: Any,
        concept_set: ConceptSet,
        judge: Any,
        base_clip: Any = None,
        base_attack: InversionSet | None = None,
        **widgets: Any,
    ) -> dict[str, Any]:
        from ..host.model.own_pictures import base_difference, require_own_pictures
        from ..host.model.weights import fingerprint

        concept = concept_set.concept
        check_names(judge, (concept,))
        require_own_pictures(base, concept_set)
        apart = base_difference(model, base)
        config = attack_config(widgets)
        job = _Job(vae, concept_set, judge, config, widgets, str(fingerprint(base).sample_sha256))
        if base_attack is not None:
            wanted = judged_settings(config, concept_set, job.drawing(), job.seeds)
            require_same_attack(base_attack, wanted, concept)
        theirs = job.side(base, base_clip if base_clip is not None else clip, "base", base_attack)
        if not bool(theirs.found.valid.any()):
            raise InversionError(invalid_text(theirs.found, config))
        mine = job.side(model, clip, "model", None)
        leak = Leak(mine.found, theirs.found)
        text = leak_text(leak, config, (mine.plain, theirs.plain), apart)
        sides = enumerate((mine.drawn, theirs.drawn))
        rows = {2 * k + place: v for place, drawn in sides for k, v in drawn.items()}
        grid = inversion_grid(labels(leak), rows, 8)
        made = (mine.found, theirs.found, to_tensor(grid), text)
        return with_pictures({"attack": grid}, made, text)


@dataclass(frozen=True, slots=True)
class _Side:
    """What attacks on one model found. plain: share of the plain prompt's pictures that show the
    concept. drawn: pictures by attack."""

    found: InversionSet
    plain: float
    drawn: dict[int, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Job:
    vae: Any
    pictures: ConceptSet
    judge: Any
    config: InversionConfig
    widgets: dict[str, Any]
    base: str  # which weights, so that no other base's attack stands for its own

    @property
    def seeds(self) -> Sequence[int]:
        return range(CHECK_SEEDS, CHECK_SEEDS + self.widgets["checks"])

    def drawing(self) -> dict[str, Any]:
        """How pictures are drawn, and beside which base; ready for JSON."""
        names = [name for name in drawing_widgets() if name != "pictures_at_once"]
        return {"base": self.base, **{name: self.widgets[name] for name in names}}

    def side(self, model: Any, clip: Any, name: str, known: InversionSet | None) -> _Side:
        """Attack a model and judge what was found; known: found before, on the base."""
        from ..host.app.progress import NodeProgress
        from ..host.drawing.studio import open_studio
        from ..host.training.unfinished import unfinished_inversion

        drawn: dict[int, torch.Tensor] = {}
        numbers = [f"{name}, attack {k + 1}" for k in range(self.config.count)]
        bar = NodeProgress(lambda: inversion_grid(numbers, drawn, 8) if drawn else None)
        widgets = self.widgets

        def told(done: int, total: int, message: str) -> None:
            bar(done, total, f"{name}: {message}")

        with open_studio(
            *(model, clip, self.vae, drawing_of(widgets)),
            purpose=PURPOSE,
            extra_memory_bytes=announced_memory(
                *(model, clip, self.pictures, self.config, widgets["at_once"])
            ),
            autocast=True,
        ) as studio:
            check_words(studio.encoder, self.pictures.concept, self.config)
            plain = self.plain_rate(studio, must=name == "base")
            if known is not None:
                known.check_encoder(studio.encoder)
                return _Side(known, plain)
            parts, resumable = (self.config, self.pictures, studio.encoder), widgets["resumable"]
            with unfinished_inversion(model, *parts, resumable) as kept:
                found = concept_inversion(
                    *(studio.denoiser, studio.encoder, self.pictures, self.config, told),
                    state=kept.state,
                    on_checkpoint=kept.save,
                )
            checks = Validation(
                *(studio.sampler, self.judge, "", self.seeds),
                at_once=widgets["pictures_at_once"],
                on_pictures=drawn.__setitem__,
            )
            found = judged_attack(found, studio.encoder, checks, told, self.drawing())
        return _Side(found, plain, drawn)

    def plain_rate(self, studio: Any, must: bool) -> float:
        """Share of the plain prompt's pictures that show the concept; must: raise at 0."""
        concept = self.pictures.concept
        named = self.config.template.replace("{}", concept)
        row = studio.encoder.encode([self.widgets["prompt"].strip() or named])
        if must:
            return check_judge(studio.sampler, self.judge, concept, row, self.seeds)
        scores = judged(self.judge, draw(studio.sampler, row, self.seeds), concept)
        return float((scores >= HIT).float().mean())
