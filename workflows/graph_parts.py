"""The stages that workflows are made of: load, learn, subtract, compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from devtools.workflow_graph import Graph, Node, Output
from workflows import notes

SEED = 1234
TOP = 330  # where the nodes of a stage begin
NOTES = TOP - 200  # where the notes above the groups end
LANES = TOP - 180  # between them, for wires
# The columns, from left to right: what is loaded and drawn, its pictures, what learns them, what
# comes of it, and the comparison in four: texts, samplers, what is folded, results.
DRAWN, SEEN, LEARNED, VECTOR, COMPARED = 0, 380, 760, 1140, 1520
BOTH = 1900  # where UCE's edit takes the comparison's column, the sum that follows
BELOW_LOADER = 220  # where the next node stands in the loader's column
BELOW_LOOK = 450  # where one stands below the preview
CONCEPT_ALONE = "1 Pictures of the concept"
WIDE, RESULT = 320, 760  # eight pictures side by side, large enough to be judged
SMALL = (270, 0)  # of the nodes of the last stage
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
    inversion_steps: int = 150  # of Diverse Inversion
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


@dataclass(frozen=True)
class Learned:
    """The task vector, the node that learns, and those that make and save the vector."""

    vector: Output
    tuner: Node
    makers: list[Node]


def load(g: Graph, about: str, checkpoint: str | None = None, demo: str = "UNet") -> Source:
    """A demo model, or a checkpoint of the user's, with the note that opens the graph."""
    size = (WIDE, 0)
    if checkpoint is None:
        loader = g.add("TVEraseDemoModel", (DRAWN, TOP), size=size, model=demo)
    else:
        loader = g.add("CheckpointLoaderSimple", (DRAWN, TOP), size=size, ckpt_name=checkpoint)
    g.note(DRAWN, NOTES, about, WIDE)
    return source_of(g, *(loader.out(slot) for slot in range(3)))


def source_of(g: Graph, *outputs: Output) -> Source:
    """Of the three outputs, whose wires go far."""
    g.lanes = LANES
    g.lead(*outputs)
    return Source(*outputs)


def drawn_pictures(
    g: Graph, source: Source, recipe: Recipe, group: str, top: int, *others: Node
) -> Output:
    """The model draws the concept, from `top` downwards. Returns the concept set. others: nodes of
    the same group."""
    pictures = g.add(
        "TVEraseConceptSetFromPrompt",
        (DRAWN, top),
        size=(WIDE, 0),
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
    g.lead(pictures.out(0))
    seen = g.add("VAEDecode", (SEEN, top), folded=True, samples=pictures.out(1), vae=source.vae)
    look = looked_at(g, seen.out(), top + 45)
    g.group(group, [pictures, seen, look, *others], BLUE)
    return pictures.out()


def looked_at(g: Graph, images: Output, top: int) -> Node:
    """What will be erased, to be seen."""
    return g.add("PreviewImage", (SEEN, top), "What will be erased", (WIDE, 330), images=images)


def folder_pictures(g: Graph, source: Source, recipe: Recipe, folder: str) -> Output:
    """Stage 1: the user's own pictures. Returns the concept set."""
    images = g.add(
        "TVEraseLoadImageFolder",
        (DRAWN, TOP + BELOW_LOADER),
        size=(WIDE, 0),
        folder=folder,
        width=recipe.size,
        height=recipe.size,
    )
    look = looked_at(g, images.out(), TOP + BELOW_LOADER)
    pictures = g.add(
        "TVEraseConceptSetFromImages",
        (SEEN, TOP + BELOW_LOADER + 400),
        size=(WIDE, 0),
        model=source.model,
        clip=source.clip,
        vae=source.vae,
        images=images.out(),
        concept=recipe.concept,
    )
    g.lead(images.out(), pictures.out())
    g.group("1 Your pictures", [images, pictures, look], BLUE)
    return pictures.out()


def retained_pictures(g: Graph, source: Source, recipe: Recipe, top: int) -> Node:
    """The model draws what must stay, each picture under its own prompt."""
    kept = g.add(
        "TVEraseConceptSetFromPrompt",
        (SEEN, top),
        "What must stay",
        (WIDE, 0),
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
    g.lead(kept.out(0))
    return kept


def learned(
    g: Graph,
    source: Source,
    pictures: Output,
    recipe: Recipe,
    top: int = TOP,
    kept: Output | None = None,
    mask: Output | None = None,
    save: bool = True,
) -> Learned:
    """Stage 2. kept: what must stay, drawn already. mask: which blocks are trained; none: all.
    save: the vector, as it is."""
    tuned = g.add(
        "TVEraseConceptFinetune",
        (LEARNED, top),
        size=(WIDE, 880),
        model=source.model,
        concept_set=pictures,
        **({"retained_set": kept} if kept else {}),
        **({"block_mask": mask} if mask else {}),
        **recipe.tune,
    )
    vector = g.add("TVEraseExtractTaskVector", (VECTOR, top), base=source.model, tuned=tuned.out(0))
    file = [saved(g, (VECTOR, top + 250), vector.out(), recipe)] if save else []
    g.lead(vector.out())
    return Learned(vector.out(), tuned, [vector, *file])


def saved(g: Graph, at: tuple[int, int], vector: Output, recipe: Recipe) -> Node:
    """The node that writes the vector's file."""
    return g.add(
        "TVEraseSaveTaskVector",
        at,
        task_vector=vector,
        filename_prefix=f"task_vectors/{recipe.concept}",
        max_error=recipe.file_error,
    )


def learn(
    g: Graph,
    source: Source,
    recipe: Recipe,
    stage_1: str,
    stage_2: str,
    pictures: Output | None = None,
    mask: Output | None = None,
    top: int = TOP + BELOW_LOADER,
    save: bool = True,
) -> tuple[Output, Learned]:
    """Stages 1 and 2 with their notes; pictures: made already, else drawn here, from `top` down.
    save: see `learned`."""
    kept = retained_pictures(g, source, recipe, top + BELOW_LOOK) if recipe.retained else None
    if pictures is None:
        title = "1 Pictures of the concept, and of what must stay" if kept else CONCEPT_ALONE
        pictures = drawn_pictures(g, source, recipe, title, top, *([kept] if kept else []))
    found = learned(g, source, pictures, recipe, kept=kept and kept.out(), mask=mask, save=save)
    g.note(SEEN, NOTES, stage_1, WIDE)
    g.note(LEARNED, NOTES, stage_2, WIDE)
    return pictures, found


def subtracted(
    g: Graph, at: tuple[int, int], source: Source, vector: Output, strength: Any, **options: Any
) -> Node:
    """The node that erases."""
    erased = g.add(
        "TVEraseApplyNegatedTV",
        at,
        model=source.model,
        task_vector=vector,
        strength=strength,
        **options,
    )
    g.lead(erased.out())
    return erased


def subtract(
    g: Graph, source: Source, found: Learned, strength: float, text: str, **options: Any
) -> Output:
    """Stage 3 with its note, below what was learned. Returns the erased MODEL."""
    g.group("2 Learn", [found.tuner], GREEN)
    erased = subtracted(g, (VECTOR, TOP + 530), source, found.vector, strength, **options)
    g.note(VECTOR, NOTES, text, 300)
    g.group("3 Difference, file, subtraction", [*found.makers, erased], RED)
    return erased.out()


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
        "CLIPTextEncode",
        (left, TOP + 210),
        "Negative prompt: empty",
        SMALL,
        clip=source.clip,
        text="",
    )
    sizes = {"width": recipe.size, "height": recipe.size, "batch_size": recipe.shown}
    latent = g.add(recipe.latent, (left, TOP + 410), "", SMALL, **sizes)
    g.lead(empty.out(), latent.out())
    shown = [empty, latent]
    for place, prompt in enumerate(prompts):
        at = (left, TOP + 660 * place)
        shown += drawn_twice(g, at, source, erased, recipe, prompt, (empty, latent))
    g.note(left, NOTES, notes.COMPARE.format(stage=stage, asked=asked), 660)
    g.group(f"{stage} Before and after", shown, GREY)


def drawn_twice(
    g: Graph,
    at: tuple[int, int],
    source: Source,
    erased: Output,
    recipe: Recipe,
    prompt: str,
    shared: tuple[Node, Node],
) -> list[Node]:
    """One prompt by both models, their grid and its file. shared: the empty prompt, the latents."""
    (left, top), (empty, latent) = at, shared
    text = g.add(
        "CLIPTextEncode", (left, top), f"Prompt: {prompt}", SMALL, clip=source.clip, text=prompt
    )
    g.lead(text.out())
    rows, shown = [], list[Node]()
    for row, (label, model) in enumerate((("before", source.model), ("after", erased))):
        sampler = g.add(
            "KSampler",
            (left + 390, top + 310 * row),
            f"{prompt}, {label}",
            SMALL,
            model=model,
            positive=text.out(),
            negative=empty.out(),
            latent_image=latent.out(),
            seed=SEED,
            **recipe.draw,
        )
        decoded = g.add(
            "VAEDecode",
            (left + 720, top + 310 * row + 30),
            folded=True,
            samples=sampler.out(),
            vae=source.vae,
        )
        shown += [sampler, decoded]
        rows.append(decoded.out())
    g.lead(rows[1])
    grid = g.add(
        "TVEraseBeforeAfterGrid",
        (left + 990, top),
        f"Grid: {prompt}",
        (RESULT, 590),
        before=rows[0],
        after=rows[1],
        title=prompt,
        columns=recipe.shown,
    )
    picture = g.add(
        "SaveImage",
        (left + 990 + RESULT + 40, top + 30),
        f"Save: {prompt}",
        folded=True,
        images=grid.out(),
        filename_prefix=f"tverase/{prompt.replace(' ', '_')}",
    )
    return [*shown, text, grid, picture]
