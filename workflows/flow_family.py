"""What there is to say of a family of transformers, so that its workflow can be made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workflows.checkpoint_graphs import PROMPTS
from workflows.graph_parts import Recipe

KEPT = (
    "a photo of a dog",
    "a photo of a horse",
    "a bird on a branch",
    "a photo of a car",
    "a portrait of a woman",
    "a city street",
    "a bowl of fruit",
    "a lake in the mountains",
)
# The demo transformer's recipe, as a change of low rank; fewer pictures a step.
TUNE: dict[str, Any] = {
    "steps": 200,
    "learning_rate": 1e-4,
    "batch_size": 4,
    "accumulation": 4,
    "seed": 1,
    "flip": False,
    "ema": False,
    "rank": 16,
    "rate_schedule": "cosine",
    "retained_weight": 1.0,
    "retained_strength": 1.5,
    "least_noise": 0.3,
}


def sampler(steps: int, cfg: float, name: str, scheduler: str = "simple") -> dict[str, Any]:
    return {"steps": steps, "cfg": cfg, "sampler_name": name, "scheduler": scheduler}


@dataclass(frozen=True)
class Memory:
    """Of the pack's memory plan at rank 16, one picture at a time, blocks recomputed, computed in
    bfloat16; GiB. card: beyond the model's weights, at most: when it was reckoned a block's weights
    counted; main: main memory, for the whole difference."""

    weights: float
    card: float
    main: float


@dataclass(frozen=True)
class Family:
    """lead: what the graph does, below its title. encoder: a stock loader and its widgets; vae: a
    file; neither of a whole checkpoint. billions: weights of the network. shift: of
    ModelSamplingAuraFlow, where the template has it. used: a distillate's file and how it draws;
    none: the model itself. attention: train attention alone, or the difference would not fit into
    main memory. strength: where to begin."""

    title: str
    lead: str
    file: str
    billions: float
    memory: Memory
    draw: dict[str, Any]
    size: int = 1024
    encoder: tuple[str, dict[str, str]] | None = None
    vae: str = ""
    shift: float | None = None
    latent: str = "EmptySD3LatentImage"
    strength: float = 1.0
    used: tuple[str, dict[str, Any]] | None = None
    attention: bool = False
    host: str = "Needs ComfyUI 0.3.75 or newer."
    extra: str = ""  # a last word

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            prompts=PROMPTS,
            retained=KEPT,
            captions=("{prompt}",),
            captioned=0.5,
            size=self.size,
            count=48,
            kept_each=2,
            at_once=1,
            shown=2,
            strength=self.strength,
            file_error=0.01,
            latent=self.latent,
            draw=self.draw,
            tune={**TUNE, "guidance": self.draw["cfg"]},
        )

    def sockets(self) -> tuple[str, ...]:
        """The loaders' inputs that name a file."""
        if self.encoder is None:
            return ("ckpt_name",)
        texts = [name for name in self.encoder[1] if name.startswith("clip_name")]
        return ("unet_name", *texts, "vae_name")

    def passes(self) -> int:
        """Passes through the network until the vector is there. A picture that is learned: forward,
        again while recomputed, and back, which counts twice; two of the base for guidance. One that
        is kept: the same four and one of the base."""
        drawn = self.recipe.count + self.recipe.kept_each * len(KEPT)
        guided = 1 if self.draw["cfg"] == 1 else 2
        return drawn * self.draw["steps"] * guided + TUNE["steps"] * TUNE["batch_size"] * 11

    def hours(self) -> float:
        """The same at 1e14 operations a second: two a weight and token of 16 x 16 pixels."""
        each = 2 * self.billions * 1e9 * (self.size / 16) ** 2
        return self.passes() * each / 1e14 / 3600
