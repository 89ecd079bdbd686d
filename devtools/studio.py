"""The pack's nodes on the demo model, in this process, for pictures of documents and workflows."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from workflows.demo_graphs import DEMO, drawn_by
from workflows.graph_parts import RETAINED_EACH, Recipe

SEED = 70_000
DRAWING = drawn_by(DEMO)


@dataclass
class PictureMaker:
    """The pack's nodes on the demo model, and the last pictures that a node showed."""

    pack: Any
    temp: Path
    demo: str = "UNet"  # which of the demo models
    drawn: Mapping[str, Any] = field(default_factory=lambda: DEMO.draw)  # how it is sampled
    shown: list[Image.Image] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.model, self.clip, self.vae = self.run("TVEraseDemoModel", model=self.demo)

    def module(self, name: str) -> Any:
        """A module of the pack that its nodes have loaded, by its name below the pack."""
        return sys.modules[f"{self.pack.__name__}.{name}"]

    def run(self, kind: str, /, **values: Any) -> tuple[Any, ...]:
        """A node's outputs; widgets that are not given have their defaults."""
        node = self.pack.NODE_CLASS_MAPPINGS[kind]()
        inputs = {}
        for name, spec in node.INPUT_TYPES().get("required", {}).items():
            if name not in values and "default" in spec[1]:
                inputs[name] = spec[1]["default"]
        given = {**inputs, **values}
        if getattr(node, "INPUT_IS_LIST", False):
            given = {key: [value] for key, value in given.items()}
        found = getattr(node, node.FUNCTION)(**given)
        if not isinstance(found, dict):
            return tuple(found)
        entries = found["ui"].get("images", [])
        self.shown = [Image.open(self.temp / e["subfolder"] / e["filename"]) for e in entries]
        return tuple(found["result"])

    def draw(self, model: Any, prompts: Sequence[str], count: int, seed: int = SEED) -> Any:
        """Pictures float [n, H, W, 3] in 0..1 of the prompts in turn."""
        return self.vae.decode(self.latents(model, prompts, count, seed)[1]["samples"])

    def latents(
        self,
        model: Any,
        prompts: Sequence[str],
        count: int,
        seed: int,
        concept: str = "x",
        **texts: Any,
    ) -> tuple[Any, ...]:
        """Concept set and latents of Concept Set from Prompt; texts: as `Recipe.texts`."""
        return self.run(
            "TVEraseConceptSetFromPrompt",
            model=model,
            clip=self.clip,
            prompt="\n".join(prompts),
            concept=concept,
            count=count,
            seed=seed,
            width=DEMO.size,
            height=DEMO.size,
            batch_size=DEMO.at_once,
            **texts,
            **self.drawn,
        )

    def learn(self, recipe: Recipe) -> tuple[Any, Any]:
        """Concept set and task vector, by the settings of a shipped workflow."""
        pictures, _ = self.latents(
            self.model, recipe.prompts, recipe.count, 1, recipe.concept, **recipe.texts()
        )
        return pictures, self.vector_of(pictures, recipe)

    def vector_of(self, pictures: Any, recipe: Recipe) -> Any:
        """The task vector of a concept set; `shown` holds the loss curve."""
        kept = {}
        if recipe.retained:
            count = RETAINED_EACH * len(recipe.retained)
            kept["retained_set"], _ = self.latents(
                self.model, recipe.retained, count, 1, "what must stay", caption="{prompt}"
            )
        return self.run(
            "TVEraseConceptFinetune",
            model=self.model,
            concept_set=pictures,
            **kept,
            **recipe.tune,
        )[2]

    def erase(self, vector: Any, strength: float = DEMO.strength) -> Any:
        """The model less the vector."""
        return self.run(
            "TVEraseApplyNegatedTV",
            model=self.model,
            task_vector=vector,
            strength=strength,
        )[0]
