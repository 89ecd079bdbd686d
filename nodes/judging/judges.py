"""Judges: who tells whether the concept is still in a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ...demo.judge_network import load_demo_judge
from ...tverase_core.errors import ConfigError
from ...tverase_core.judging.prototype_judge import PrototypeJudge, fit_prototype
from ..demo_nodes import MODEL_FOLDER
from ..shared.rgb import rgb
from ..shared.sockets import CATEGORY, JUDGE
from ..shared.whole_lists import TakesLists
from ..shared.widgets import socket, text


class DemoJudgeNode:
    """Loads the judge in demo/model."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {}}

    RETURN_TYPES = (JUDGE,)
    RETURN_NAMES = ("judge",)
    OUTPUT_TOOLTIPS = ("For Diverse Inversion and Auto-Strength.",)
    FUNCTION = "load"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "The judge of the demo model: it tells which of the 16 objects (cat, dog, heart, ...) and "
        "3 styles (noto, fluent, ink) are in a picture, or that it is something else."
    )
    SEARCH_ALIASES = ["classifier", "detector", "demo judge"]

    def load(self) -> tuple[Any]:
        path: Path = MODEL_FOLDER / "demo_judge.safetensors"
        if not path.exists():
            raise FileNotFoundError(
                f"The demo judge is not in this install ({path.name} is missing). Install the "
                "pack again, or train it with `python dev.py train`."
            )
        return (load_demo_judge(path),)


class JudgeFromExamples(TakesLists):
    """A nearest-centroid judge in the feature space of a CLIP vision model."""

    RUN = "fit"
    LISTS = ("examples", "counter_examples")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "clip_vision": socket(
                    "CLIP_VISION", "A CLIP vision model, from the stock Load CLIP Vision node."
                ),
                "concept": text(
                    "",
                    "The name this judge answers to, written as in the concept set "
                    "or behind the | of a retained prompt.",
                ),
                "examples": socket(
                    "IMAGE",
                    "Pictures that show the concept, 4 or more, better 16, best "
                    "drawn by the model itself.",
                ),
                "counter_examples": socket(
                    "IMAGE",
                    "Pictures of other things: related subjects, and what the model "
                    "draws instead. As many as examples.",
                ),
            },
            "optional": {
                "others": socket(
                    JUDGE, "A judge that already knows other concepts; this one is added."
                ),
            },
        }

    RETURN_TYPES = (JUDGE, "STRING")
    RETURN_NAMES = ("judge", "report")
    OUTPUT_TOOLTIPS = (
        "For Diverse Inversion and Auto-Strength.",
        "How well it told the examples apart, each left out in turn.",
    )
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Makes a judge for any concept from a few pictures with it and without it. Refuses when "
        "the examples, each left out in turn, are not told apart."
    )
    SEARCH_ALIASES = ["classifier", "detector", "few-shot"]

    def fit(
        self,
        clip_vision: Any,
        concept: str,
        examples: Sequence[torch.Tensor],
        counter_examples: Sequence[torch.Tensor],
        others: Any = None,
    ) -> tuple[Any, str]:
        from ..host.app.vision import VisionFeatures

        name = concept.strip()
        if not name:
            raise ConfigError("The judge's concept has no name. Write it into `concept`.")
        features = VisionFeatures(clip_vision)
        # Batch by batch: the vision model brings pictures of any size to its own.
        positive, counter = (
            torch.cat([features(rgb(name, batch)) for batch in batches])
            for name, batches in (("examples", examples), ("counter_examples", counter_examples))
        )
        found = fit_prototype(name, positive, counter)
        report = (
            f"Judge for {name!r}: saw it in {found.must_fire:.0%} of {len(positive)} left-out "
            f"examples, stayed silent on {found.must_not_fire:.0%} of {len(counter)} "
            "left-out counter-examples."
        )
        return PrototypeJudge(features, {name: found}, others), report
