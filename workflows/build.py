"""Writes the shipped workflows from the descriptions below: `python dev.py workflows`.

Each gives two files: `<name>.json` for the canvas and `api/<name>.json` for POST /prompt.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.append(str(ROOT))

from devtools import in_process  # noqa: E402 - after the path is set
from devtools.workflow_graph import Graph, Output  # noqa: E402 - after the path is set

CONCEPT = "cat"
PROMPT = "a cat"
OTHER = "dog"
STRENGTH = 1.25
SEED = 1234
TUNE = {"steps": 100, "learning_rate": 2e-4, "batch_size": 32, "accumulation": 1, "seed": 1}
TUNE_SWITCHES = {"flip": False, "ema": False}
DRAW = {"steps": 20, "cfg": 5.0, "sampler_name": "dpmpp_2m", "scheduler": "karras"}
COUNT = 64  # pictures of the concept
SHOWN = 8  # pictures in each row of a grid
SIZE = 64
INVERT = {"count": 10, "steps": 300, "learning_rate": 5e-2, "batch": 4}
RETAINED = "\n".join(
    f"a {name} | {name}" for name in ("dog", "bird", "tree", "car", "clock", "fish")
)
NOTES, NOTES_HIGH = -30, 260  # the row of notes above the groups
BLUE, GREEN, RED, GREY = "#3f789e", "#88aa66", "#a1309b", "#888"
COMFYUI = "0.3.75"  # the version the stock nodes were taken from

ABOUT = """# Erase a concept
This graph takes **{concept}** out of the small model that ships with the pack, by task vector \
(arXiv 2404.03631). Press **Run**: it takes a few minutes on a CPU.

1. The model draws pictures of the concept.
2. A copy of the model learns them. What changed is the *task vector*.
3. The vector is subtracted from the model.
4. The same seeds are drawn before and after."""
STAGE_1 = """### 1 Pictures of the concept
Everything that these pictures have in common will be erased, so look at them in the preview. One \
prompt a line; several ways to ask give a broader set. Your own pictures work as well: use \
**Concept Set from Images**."""
STAGE_2 = """### 2 Learn it, take the difference
**Concept Fine-tune** trains under *empty* captions, so the change does not hang on a prompt. The \
settings here suit the demo model. For Stable Diffusion keep the node's own defaults: 200 steps of \
16 pictures, 1e-5, EMA on.

The saved file is an ordinary LoRA file: the stock Load LoRA node erases with it at a *negative* \
strength."""
STAGE_3 = """### 3 Subtract
`erased = base - strength x task vector`. 0 changes nothing. Too little leaves the concept in, too \
much harms the rest. Judge it at the CFG you draw with: the same strength does more at CFG 1."""
ABOUT_AUTO = """# Erase a concept, measured
Takes **{concept}** out of the demo model and finds by itself how much to subtract, and where. \
Press **Run**: it takes a good while on a CPU.

Another concept: change its name and prompt in stage 1, and the retained prompts in stage 4."""
STAGE_TRIGGERS = """### 3 Triggers
**Diverse Inversion** finds many embeddings that still make the model draw the concept, words that \
nobody would type. The judge checks each. How they are kept diverse is our own derivation."""
STAGE_CHOICE = """### 4 Where, and how much
**Auto Block Mask** keeps the blocks that erase most for the least harm. **Auto-Strength** takes \
the smallest strength that stops every trigger while the retained prompts stay, then checks it on \
triggers and seeds that played no part in the choice. If no strength does both, it goes on with \
the strongest within the budget and says so."""
STAGE_4 = """### {stage} Before and after
Equal seeds on both models. The upper grid should lose the concept, the lower one should keep the \
{other}. "Reduced", never "removed": whoever has the base model still has the concept."""


def _learn(g: Graph, model: Output, clip: Output, vae: Output) -> tuple[Output, Output]:
    """Stages 1 and 2: pictures of the concept, and its task vector."""
    pictures = g.add(
        "TVEraseConceptSetFromPrompt",
        (340, 330),
        size=(320, 0),
        model=model,
        clip=clip,
        prompt=PROMPT,
        concept=CONCEPT,
        count=COUNT,
        width=SIZE,
        height=SIZE,
        seed=1,
        batch_size=32,
        **DRAW,
    )
    seen = g.add("VAEDecode", (0, 480), size=(280, 0), samples=pictures.out(1), vae=vae)
    look = g.add("PreviewImage", (0, 580), "What will be erased", (280, 280), images=seen.out())
    settings = {**TUNE, **TUNE_SWITCHES}
    tuned = g.add(
        "TVEraseConceptFinetune",
        (720, 330),
        size=(320, 620),
        model=model,
        concept_set=pictures.out(0),
        **settings,
    )
    vector = g.add("TVEraseExtractTaskVector", (1080, 330), base=model, tuned=tuned.out(0))
    saved = g.add(
        "TVEraseSaveTaskVector",
        (1080, 540),
        task_vector=vector.out(),
        filename_prefix=f"task_vectors/{CONCEPT}",
    )
    g.note((340, NOTES), STAGE_1, (320, NOTES_HIGH))
    g.note((720, NOTES), STAGE_2, (660, NOTES_HIGH))
    g.group("1 Pictures of the concept", [pictures, seen, look], BLUE)
    g.group("2 Learn, take the difference, save", [tuned, vector, saved], GREEN)
    return pictures.out(), vector.out()


def _compare(
    g: Graph, left: int, stage: int, models: tuple[Output, Output], clip: Output, vae: Output
) -> None:
    """The last stage: both models at equal seeds, for the concept and for something else."""
    empty = g.add("CLIPTextEncode", (left, 540), "Negative prompt: empty", clip=clip, text="")
    latent = g.add("EmptyLatentImage", (left, 740), width=SIZE, height=SIZE, batch_size=SHOWN)
    shown = [empty, latent]
    for prompt, top in ((PROMPT, 330), (f"a {OTHER}", 990)):
        text = g.add("CLIPTextEncode", (left, top), f"Prompt: {prompt}", clip=clip, text=prompt)
        rows = []
        for row, (label, model) in enumerate(zip(("before", "after"), models, strict=True)):
            sampler = g.add(
                "KSampler",
                (left + 340, top + 310 * row),
                f"{prompt}, {label}",
                model=model,
                positive=text.out(),
                negative=empty.out(),
                latent_image=latent.out(),
                seed=SEED,
                **DRAW,
            )
            decoded = g.add(
                "VAEDecode",
                (left + 680, top + 310 * row),
                size=(200, 0),
                samples=sampler.out(),
                vae=vae,
            )
            shown += [sampler, decoded]
            rows.append(decoded.out())
        grid = g.add(
            "TVEraseBeforeAfterGrid",
            (left + 920, top),
            f"Grid: {prompt}",
            (420, 400),
            before=rows[0],
            after=rows[1],
            title=prompt,
            columns=SHOWN,
        )
        file = f"tverase/{prompt.replace(' ', '_')}"
        picture = g.add(
            "SaveImage",
            (left + 1380, top),
            f"Save: {prompt}",
            (420, 400),
            images=grid.out(),
            filename_prefix=file,
        )
        shown += [text, grid, picture]
    g.note((left, NOTES), STAGE_4.format(other=OTHER, stage=stage), (540, NOTES_HIGH))
    g.group(f"{stage} Before and after", shown, GREY)


def erase_concept(g: Graph) -> None:
    """The straight path: a strength that a person chose."""
    demo = g.add("TVEraseDemoModel", (0, 330), size=(280, 0))
    model, clip, vae = (demo.out(slot) for slot in range(3))
    g.note((0, NOTES), ABOUT.format(concept=CONCEPT), (280, NOTES_HIGH))
    _, vector = _learn(g, model, clip, vae)
    erased = g.add(
        "TVEraseApplyNegatedTV",
        (1440, 330),
        model=model,
        task_vector=vector,
        strength=STRENGTH,
    )
    g.note((1440, NOTES), STAGE_3, (300, NOTES_HIGH))
    g.group("3 Subtract", [erased], RED)
    _compare(g, 1800, 4, (model, erased.out()), clip, vae)


def erase_concept_auto(g: Graph) -> None:
    """Mask and strength found by measurement."""
    demo = g.add("TVEraseDemoModel", (0, 330), size=(280, 0))
    model, clip, vae = (demo.out(slot) for slot in range(3))
    g.note((0, NOTES), ABOUT_AUTO.format(concept=CONCEPT), (280, NOTES_HIGH))
    pictures, vector = _learn(g, model, clip, vae)
    drawing = {name: DRAW[name] for name in ("cfg", "sampler_name", "scheduler")}
    drawing |= {"sampling_steps": DRAW["steps"], "width": SIZE, "height": SIZE}
    drawing["pictures_at_once"] = 32
    base = {"model": model, "clip": clip, "seed": 1}
    judge = g.add("TVEraseDemoJudge", (1440, 330), size=(320, 0))
    found = g.add(
        "TVEraseDiverseInversion",
        (1440, 450),
        size=(320, 960),
        vae=vae,
        concept_set=pictures,
        judge=judge.out(),
        **base,
        **INVERT,
        **drawing,
    )
    mask = g.add(
        "TVEraseAutoBlockMask",
        (1820, 330),
        size=(320, 820),
        task_vector=vector,
        concept_set=pictures,
        inversion_set=found.out(),
        retained=RETAINED,
        **base,
        **drawing,
    )
    strength = g.add(
        "TVEraseAutoStrength",
        (2200, 330),
        size=(340, 960),
        vae=vae,
        task_vector=vector,
        inversion_set=found.out(),
        judge=judge.out(),
        block_mask=mask.out(),
        retained=RETAINED,
        when_infeasible="nearest",
        **base,
        **drawing,
    )
    erased = g.add(
        "TVEraseApplyNegatedTV",
        (2600, 330),
        model=model,
        task_vector=vector,
        strength=strength.out(),
        block_mask=mask.out(),
    )
    g.note((1440, NOTES), STAGE_TRIGGERS, (320, NOTES_HIGH))
    g.note((1820, NOTES), STAGE_CHOICE, (720, NOTES_HIGH))
    g.group("3 Triggers", [judge, found], RED)
    g.group("4 Where, how much, subtract", [mask, strength, erased], RED)
    _compare(g, 2960, 5, (model, erased.out()), clip, vae)


WORKFLOWS: dict[str, Callable[[Graph], None]] = {
    "erase_concept": erase_concept,
    "erase_concept_auto": erase_concept_auto,
}


def pack_version() -> str:
    """The version in pyproject.toml."""
    lines = (ROOT / "pyproject.toml").read_text("utf-8").splitlines()
    return next(line.split('"')[1] for line in lines if line.startswith("version = "))


def render(classes: Mapping[str, Any], display_names: Mapping[str, str]) -> dict[str, str]:
    """Every file's text by its path under workflows/. Raises GraphError."""
    files = {}
    for name, describe in WORKFLOWS.items():
        graph = Graph(classes, display_names, {"comfy-core": COMFYUI, "tverase": pack_version()})
        describe(graph)
        for path, content in ((f"{name}.json", graph.ui()), (f"api/{name}.json", graph.api())):
            files[path] = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True, help="a ComfyUI source tree")
    options = parser.parse_args()
    host, pack = in_process.import_host(options.comfyui), in_process.load_pack()
    classes = {**host.nodes.NODE_CLASS_MAPPINGS, **pack.NODE_CLASS_MAPPINGS}
    names = {**host.nodes.NODE_DISPLAY_NAME_MAPPINGS, **pack.NODE_DISPLAY_NAME_MAPPINGS}
    for path, text in render(classes, names).items():
        (HERE / path).parent.mkdir(exist_ok=True)
        (HERE / path).write_text(text, "utf-8", newline="\n")
        print("wrote", f"workflows/{path}")


if __name__ == "__main__":
    main()
