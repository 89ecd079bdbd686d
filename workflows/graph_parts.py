"""The stages that workflows are made of: load, learn, subtract, compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from textwrap import wrap
from typing import Any

from devtools.workflow_graph import Graph, Node, Output
from workflows import notes

SEED = 1234
TOP = 330  # where the nodes of a stage begin
NOTES, NOTES_HIGH = -30, 260  # the row of notes above the groups
RETAINED_EACH = 16  # pictures of each retained prompt
STYLES = ("noto", "fluent", "ink")  # of the demo model
BLUE, GREEN, RED, GREY = "#3f789e", "#88aa66", "#a1309b", "#888"


def asked_for(concept: str) -> tuple[str, ...]:
    """Several ways to ask the demo model for a thing: a broad set learns more than one prompt's."""
    styles = (f"a {concept} in {style} style" for style in STYLES)
    return (f"a {concept}", f"a drawing of a {concept}", *styles)


@dataclass(frozen=True)
class Recipe:
    """What is erased, and how its pictures are drawn and learned; the demo model's settings."""

    concept: str = "cat"
    prompts: tuple[str, ...] = asked_for("cat")  # that draw the concept
    retained: tuple[str, ...] = ()  # prompts that the fine-tune keeps; none: the paper's recipe
    captions: tuple[str, ...] = ()  # of the pictures; none: empty ones, the paper's recipe
    captioned: float = 1.0  # share of the pictures that get a caption
    contrasts: tuple[str, ...] = ()  # the prompts without the concept; none: the empty text
    size: int = 64
    count: int = 160  # pictures of the concept
    at_once: int = 32  # pictures drawn at once
    shown: int = 8  # pictures in each row of a grid
    strength: float = 1.7
    file_error: float = 0.0  # above 0 the file is compact, see Save Task Vector
    kept_each: int = RETAINED_EACH  # pictures of each retained prompt
    latent: str = "EmptyLatentImage"  # the node that gives the sampler its size
    draw: dict[str, Any] = field(
        default_factory=lambda: {
            "steps": 12,
            "cfg": 5.0,
            "sampler_name": "dpmpp_2m",
            "scheduler": "karras",
        }
    )
    tune: dict[str, Any] = field(
        default_factory=lambda: {
            "steps": 100,
            "learning_rate": 2e-4,
            "batch_size": 32,
            "accumulation": 1,
            "seed": 1,
            "flip": False,
            "ema": False,
        }
    )

    def texts(self) -> dict[str, Any]:
        """What the pictures are shown under, by the widgets of Concept Set from Prompt."""
        return {
            "caption": "\n".join(self.captions),
            "caption_share": self.captioned,
            "contrast": "\n".join(self.contrasts),
        }


@dataclass(frozen=True)
class Source:
    """The three outputs of a checkpoint loader."""

    model: Output
    clip: Output
    vae: Output


def load(g: Graph, about: str, checkpoint: str | None = None, demo: str = "UNet") -> Source:
    """A demo model, or a checkpoint of the user's, with the note that opens the graph."""
    if checkpoint is None:
        loader = g.add("TVEraseDemoModel", (0, TOP), size=(280, 0), model=demo)
    else:
        loader = g.add("CheckpointLoaderSimple", (0, TOP), size=(280, 0), ckpt_name=checkpoint)
    about_note(g, about, 0, 280)
    return Source(*(loader.out(slot) for slot in range(3)))


def about_note(g: Graph, about: str, left: int, width: int) -> None:
    """The note that opens the graph, upwards from the row of notes as high as it needs, by the
    canvas's own font."""
    lines = sum(len(wrap(part, width * 36 // 280)) or 1 for part in about.split("\n"))
    high = max(NOTES_HIGH, 60 + 19 * lines)
    g.note((left, NOTES + NOTES_HIGH - high), about, (width, high))


def drawn_pictures(g: Graph, source: Source, recipe: Recipe, group: str, top: int = TOP) -> Output:
    """Stage 1: the model draws the concept. Returns the concept set."""
    pictures = g.add(
        "TVEraseConceptSetFromPrompt",
        (340, top),
        size=(320, 0),
        model=source.model,
        clip=source.clip,
        prompt="\n".join(recipe.prompts),
        concept=recipe.concept,
        count=recipe.count,
        width=recipe.size,
        height=recipe.size,
        seed=1,
        batch_size=recipe.at_once,
        **recipe.texts(),
        **recipe.draw,
    )
    seen = g.add(
        "VAEDecode", (0, top + 150), size=(280, 0), samples=pictures.out(1), vae=source.vae
    )
    look = g.add(
        "PreviewImage", (0, top + 250), "What will be erased", (280, 280), images=seen.out()
    )
    g.group(group, [pictures, seen, look], BLUE)
    return pictures.out()


def folder_pictures(g: Graph, source: Source, recipe: Recipe, folder: str) -> Output:
    """Stage 1: the user's own pictures. Returns the concept set."""
    images = g.add(
        "TVEraseLoadImageFolder",
        (340, TOP),
        size=(320, 0),
        folder=folder,
        width=recipe.size,
        height=recipe.size,
    )
    pictures = g.add(
        "TVEraseConceptSetFromImages",
        (340, TOP + 250),
        size=(320, 0),
        model=source.model,
        clip=source.clip,
        vae=source.vae,
        images=images.out(),
        concept=recipe.concept,
    )
    look = g.add(
        "PreviewImage", (0, TOP + 250), "What will be erased", (280, 280), images=images.out()
    )
    g.group("1 Your pictures", [images, pictures, look], BLUE)
    return pictures.out()


def retained_pictures(
    g: Graph, source: Source, recipe: Recipe, at: tuple[int, int] = (1080, TOP + 420)
) -> Node:
    """The model draws what must stay, each picture under its own prompt."""
    return g.add(
        "TVEraseConceptSetFromPrompt",
        at,
        "What must stay",
        (320, 0),
        model=source.model,
        clip=source.clip,
        prompt="\n".join(recipe.retained),
        concept="what must stay",
        count=recipe.kept_each * len(recipe.retained),
        width=recipe.size,
        height=recipe.size,
        seed=1,
        batch_size=recipe.at_once,
        caption="{prompt}",
        **recipe.draw,
    )


def learned(
    g: Graph,
    source: Source,
    pictures: Output,
    recipe: Recipe,
    group: str,
    top: int = TOP,
    shared: Node | None = None,
    mask: Node | None = None,
) -> Output:
    """Stage 2: fine-tune, difference, file. Returns the task vector.

    shared: what must stay, drawn already; else the recipe's own is drawn here. mask: which blocks
    are trained; none: all.
    """
    own = [retained_pictures(g, source, recipe)] if recipe.retained and not shared else []
    kept = [shared] if shared else own
    tuned = g.add(
        "TVEraseConceptFinetune",
        (720, top),
        size=(320, 850),
        model=source.model,
        concept_set=pictures,
        **({"retained_set": kept[0].out()} if kept else {}),
        **({"block_mask": mask.out()} if mask else {}),
        **recipe.tune,
    )
    vector = g.add("TVEraseExtractTaskVector", (1080, top), base=source.model, tuned=tuned.out(0))
    saved = g.add(
        "TVEraseSaveTaskVector",
        (1080, top + 210),
        task_vector=vector.out(),
        filename_prefix=f"task_vectors/{recipe.concept}",
        max_error=recipe.file_error,
    )
    g.group(group, [*own, *([mask] if mask else []), tuned, vector, saved], GREEN)
    return vector.out()


def learn(
    g: Graph,
    source: Source,
    recipe: Recipe,
    stage_1: str,
    stage_2: str,
    pictures: Output | None,
    mask: Node | None = None,
) -> tuple[Output, Output]:
    """Stages 1 and 2 with their notes; pictures: made already, else drawn here."""
    if pictures is None:
        pictures = drawn_pictures(g, source, recipe, "1 Pictures of the concept")
    vector = learned(g, source, pictures, recipe, "2 Learn, take the difference, save", mask=mask)
    g.note((340, NOTES), stage_1, (320, NOTES_HIGH))
    g.note((720, NOTES), stage_2, (660, NOTES_HIGH))
    return pictures, vector


def subtracted(
    g: Graph, at: tuple[int, int], source: Source, vector: Output, strength: Any, **options: Any
) -> Node:
    """The node that erases."""
    return g.add(
        "TVEraseApplyNegatedTV",
        at,
        model=source.model,
        task_vector=vector,
        strength=strength,
        **options,
    )


def compare(
    g: Graph,
    left: int,
    stage: int,
    source: Source,
    erased: Output,
    recipe: Recipe,
    prompts: Sequence[str],
    asked: str,
) -> None:
    """The last stage: both models at equal seeds, a grid for each prompt."""
    empty = g.add(
        "CLIPTextEncode", (left, TOP + 210), "Negative prompt: empty", clip=source.clip, text=""
    )
    size = {"width": recipe.size, "height": recipe.size, "batch_size": recipe.shown}
    latent = g.add(recipe.latent, (left, TOP + 410), **size)
    shown = [empty, latent]
    for place, prompt in enumerate(prompts):
        top = TOP + 660 * place
        text = g.add(
            "CLIPTextEncode", (left, top), f"Prompt: {prompt}", clip=source.clip, text=prompt
        )
        rows = []
        for row, (label, model) in enumerate((("before", source.model), ("after", erased))):
            sampler = g.add(
                "KSampler",
                (left + 340, top + 310 * row),
                f"{prompt}, {label}",
                model=model,
                positive=text.out(),
                negative=empty.out(),
                latent_image=latent.out(),
                seed=SEED,
                **recipe.draw,
            )
            decoded = g.add(
                "VAEDecode",
                (left + 680, top + 310 * row),
                size=(200, 0),
                samples=sampler.out(),
                vae=source.vae,
            )
            shown += [sampler, decoded]
            rows.append(decoded.out())
        grid = g.add(
            "TVEraseBeforeAfterGrid",
            (left + 920, top),
            f"Grid: {prompt}",
            (760, 420),  # eight pictures side by side, large enough to be judged
            before=rows[0],
            after=rows[1],
            title=prompt,
            columns=recipe.shown,
        )
        picture = g.add(
            "SaveImage",
            (left + 1720, top),
            f"Save: {prompt}",
            (420, 400),
            images=grid.out(),
            filename_prefix=f"tverase/{prompt.replace(' ', '_')}",
        )
        shown += [text, grid, picture]
    g.note((left, NOTES), notes.COMPARE.format(stage=stage, asked=asked), (540, NOTES_HIGH))
    g.group(f"{stage} Before and after", shown, GREY)
