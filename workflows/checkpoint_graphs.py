"""Workflows for the user's own Stable Diffusion checkpoints."""

from __future__ import annotations

from typing import Any

from devtools.workflow_graph import Graph
from workflows import notes
from workflows.graph_parts import COMPARED, Recipe, compare, learn, load, subtract

PROMPTS = ("a photo of a cat", "a kitten", "a cat outdoors", "a drawing of a cat")
DRAW = {"steps": 20, "cfg": 7.5, "sampler_name": "dpmpp_2m", "scheduler": "karras"}
PAPER = {"steps": 200, "learning_rate": 1e-5, "batch_size": 16, "accumulation": 16, "seed": 1}
SD15 = Recipe(
    prompts=PROMPTS,
    size=512,
    count=200,
    at_once=8,
    shown=4,
    strength=1.75,
    draw=DRAW,
    tune=PAPER,
)
LOW_RANK: dict[str, Any] = {**PAPER, "learning_rate": 1e-4, "rank": 16, "ema": False}
SDXL = Recipe(
    prompts=PROMPTS,
    size=1024,
    count=64,
    at_once=2,
    shown=2,
    strength=1.0,
    file_error=0.01,  # a trained rank is kept whole; the full difference would be 10 GB
    draw={**DRAW, "cfg": 6.0},
    tune=LOW_RANK,
)


def _erase(g: Graph, recipe: Recipe, checkpoint: str, about: str, stage_2: str) -> None:
    source = load(g, about.format(concept=recipe.concept), checkpoint)
    _, found = learn(g, source, recipe, notes.STAGE_1, stage_2)
    text = notes.STAGE_STRENGTH.format(strength=recipe.strength)
    erased = subtract(g, source, found, recipe.strength, text)
    shown = ("a photo of a cat", "a photo of a dog")
    asked = notes.COMPARE_TWO.format(other="dog")
    compare(g, COMPARED, 4, source, erased, recipe, shown, asked)


def erase_sd15(g: Graph) -> None:
    """All weights, as in the paper."""
    checkpoint = "v1-5-pruned-emaonly-fp16.safetensors"
    _erase(g, SD15, checkpoint, notes.ABOUT_SD15, notes.STAGE_FULL)


def erase_sdxl(g: Graph) -> None:
    """A change of low rank, which fits smaller cards."""
    _erase(g, SDXL, "sd_xl_base_1.0.safetensors", notes.ABOUT_SDXL, notes.STAGE_RANK)
