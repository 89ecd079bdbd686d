"""Workflows that run at once, on the model that ships with the pack."""

from __future__ import annotations

from dataclasses import replace

from devtools.workflow_graph import Graph
from workflows import notes
from workflows.graph_parts import (
    GREEN,
    NOTES,
    NOTES_HIGH,
    RED,
    TOP,
    Recipe,
    Source,
    asked_for,
    compare,
    drawn_pictures,
    folder_pictures,
    learn,
    learned,
    load,
    retained_pictures,
    subtracted,
)

DEMO = Recipe()
KEPT = ("dog", "bird", "tree", "car", "clock", "fish", "fruit", "ball")
# With a retained set the vector grows more slowly, hence the higher rate; small batches, a rate
# that falls and guided targets harm the rest less at equal erasure: docs/decisions/0012 to 0015.
KEEPING = {
    **DEMO.tune,
    "steps": 150,
    "batch_size": 16,
    "learning_rate": 4e-4,
    "rate_schedule": "cosine",
    "guidance": DEMO.draw["cfg"],
    "retained_weight": 1.0,
    "retained_strength": 1.5,
}
AUTO = replace(
    DEMO,
    retained=tuple(f"a {name}" for name in KEPT),
    captions=("{prompt}",),
    captioned=0.5,
    tune={**KEEPING, "least_noise": 0.3},
)
# The transformer's, by the same recipe.
FLOW = replace(
    AUTO,
    draw={"steps": 16, "cfg": 5.0, "sampler_name": "euler", "scheduler": "simple"},
    strength=1.6,
)
INVERT = {"count": 12, "steps": 150, "learning_rate": 5e-2, "batch": 4}
RETAINED = "\n".join(f"a {name} | {name}" for name in KEPT)
# Two vectors are added, so what each keeps must be neither concept.
CAT_OF_TWO = replace(
    AUTO,
    retained=tuple(f"a {name}" for name in (*KEPT[1:], "house")),
    strength=1.1,
)
DOG_OF_TWO = replace(CAT_OF_TWO, concept="dog", prompts=asked_for("dog"))
STYLE = "ink"
SUBJECTS = ("cat", "dog", "bird", "tree", "car", "clock", "fish", "house")
BARE = tuple(f"a {subject}" for subject in SUBJECTS)
ASKED = tuple(f"{subject} in {STYLE} style" for subject in BARE)
# A third each under the subject's name, its own prompt and none, and where a picture is mostly
# noise: docs/decisions/0011 and 0014.
IN_STYLE = replace(
    DEMO,
    concept=STYLE,
    prompts=ASKED * 2,
    captions=(*BARE, *ASKED),
    captioned=0.65,
    contrasts=BARE * 2,
    retained=tuple(
        f"a {subject} in {style} style" for subject in SUBJECTS for style in ("noto", "fluent")
    ),
    strength=1.3,
    tune={**KEEPING, "least_noise": 0.6},
)
SHIPPED_PICTURES = "demo: cats"  # a choice of Load Images from Folder
SHIPPED_COUNT = 16
SAVED_VECTOR = "task_vectors/cat_00001_.tv.safetensors"  # what erase_concept writes first


def erase_concept(g: Graph) -> None:
    """The straight path: a strength that a person chose."""
    source = load(g, notes.ABOUT.format(concept=DEMO.concept))
    _, vector = learn(g, source, DEMO, notes.STAGE_1, notes.STAGE_2, None)
    erased = subtracted(g, (1440, TOP), source, vector, DEMO.strength)
    g.note((1440, NOTES), notes.STAGE_3.format(stage=3), (300, NOTES_HIGH))
    g.group("3 Subtract", [erased], RED)
    asked = notes.COMPARE_TWO.format(other="dog")
    compare(g, 1800, 4, source, erased.out(), DEMO, ("a cat", "a dog"), asked)


def erase_concept_flow(g: Graph) -> None:
    """The straight path on the transformer."""
    source = load(g, notes.ABOUT_FLOW.format(concept=FLOW.concept), demo="flow")
    _, vector = learn(g, source, FLOW, notes.STAGE_1, notes.STAGE_2_RETAINED, None)
    erased = subtracted(g, (1440, TOP), source, vector, FLOW.strength)
    g.note((1440, NOTES), notes.STAGE_3.format(stage=3), (300, NOTES_HIGH))
    g.group("3 Subtract", [erased], RED)
    asked = notes.COMPARE_TWO.format(other="dog")
    compare(g, 1800, 4, source, erased.out(), FLOW, ("a cat", "a dog"), asked)


def erase_concept_auto(g: Graph) -> None:
    """Triggers and strength found by measurement."""
    measured(g, load(g, notes.ABOUT_AUTO.format(concept=DEMO.concept)), AUTO)


def erase_concept_flow_auto(g: Graph) -> None:
    """The same on the transformer."""
    about = notes.ABOUT_FLOW_AUTO.format(concept=FLOW.concept)
    measured(g, load(g, about, demo="flow"), FLOW)


def measured(g: Graph, source: Source, recipe: Recipe) -> None:
    """Learn, search triggers, measure the strength, subtract and compare."""
    pictures, vector = learn(g, source, recipe, notes.STAGE_1, notes.STAGE_2_RETAINED, None)
    drawing = {name: recipe.draw[name] for name in ("cfg", "sampler_name", "scheduler")}
    drawing |= {
        "sampling_steps": recipe.draw["steps"],
        "width": recipe.size,
        "height": recipe.size,
        "pictures_at_once": recipe.at_once,
    }
    base = {"model": source.model, "clip": source.clip, "seed": 1}
    judge = g.add("TVEraseDemoJudge", (1440, TOP), size=(320, 0))
    found = g.add(
        "TVEraseDiverseInversion",
        (1440, 450),
        size=(320, 960),
        vae=source.vae,
        concept_set=pictures,
        judge=judge.out(),
        **base,
        **INVERT,
        **drawing,
    )
    strength = g.add(
        "TVEraseAutoStrength",
        (1820, TOP),
        size=(340, 960),
        vae=source.vae,
        task_vector=vector,
        inversion_set=found.out(),
        judge=judge.out(),
        retained=RETAINED,
        when_infeasible="nearest",
        target=0.12,  # one hit in forty pictures still shows it with 95 % confidence
        step=0.2,  # finer steps give luck more chances to pass a strength that is too weak
        pictures_per_trigger=40,
        **base,
        **drawing,
    )
    erased = subtracted(g, (2220, TOP), source, vector, strength.out())
    g.note((1440, NOTES), notes.STAGE_TRIGGERS, (320, NOTES_HIGH))
    g.note((1820, NOTES), notes.STAGE_CHOICE, (340, NOTES_HIGH))
    g.group("3 Triggers", [judge, found], RED)
    g.group("4 How much, subtract", [strength, erased], RED)
    asked = notes.COMPARE_TWO.format(other="dog")
    compare(g, 2580, 5, source, erased.out(), recipe, ("a cat", "a dog"), asked)


def erase_from_images(g: Graph) -> None:
    """The concept as pictures in a folder."""
    source = load(g, notes.ABOUT_IMAGES.format(count=SHIPPED_COUNT))
    pictures = folder_pictures(g, source, DEMO, SHIPPED_PICTURES)
    _, vector = learn(g, source, DEMO, notes.STAGE_IMAGES, notes.STAGE_2, pictures)
    erased = subtracted(g, (1440, TOP), source, vector, DEMO.strength)
    g.note((1440, NOTES), notes.STAGE_3.format(stage=3), (300, NOTES_HIGH))
    g.group("3 Subtract", [erased], RED)
    asked = notes.COMPARE_TWO.format(other="dog")
    compare(g, 1800, 4, source, erased.out(), DEMO, ("a cat", "a dog"), asked)


def erase_style(g: Graph) -> None:
    """What pictures share is a style, not a thing."""
    source = load(g, notes.ABOUT_STYLE.format(concept=STYLE))
    stage_1 = notes.STAGE_STYLE.format(subjects=len(SUBJECTS))
    _, vector = learn(g, source, IN_STYLE, stage_1, notes.STAGE_2_STYLE, None)
    erased = subtracted(g, (1440, TOP), source, vector, IN_STYLE.strength)
    g.note((1440, NOTES), notes.STAGE_3.format(stage=3), (300, NOTES_HIGH))
    g.group("3 Subtract", [erased], RED)
    shown = (f"a cat in {STYLE} style", "a cat in noto style")
    compare(g, 1800, 4, source, erased.out(), IN_STYLE, shown, notes.COMPARE_STYLE)


def apply_vector(g: Graph) -> None:
    """A file that somebody else made."""
    source = load(g, notes.ABOUT_VECTOR)
    vector = g.add("TVEraseLoadTaskVector", (340, TOP), size=(320, 0), file=SAVED_VECTOR)
    erased = subtracted(g, (720, TOP), source, vector.out(), DEMO.strength)
    g.note((340, NOTES), notes.STAGE_VECTOR.format(strength=DEMO.strength), (320, NOTES_HIGH))
    g.note((720, NOTES), notes.STAGE_3.format(stage=2), (300, NOTES_HIGH))
    g.group("1 The vector", [vector], GREEN)
    g.group("2 Subtract", [erased], RED)
    asked = notes.COMPARE_TWO.format(other="dog")
    compare(g, 1080, 3, source, erased.out(), DEMO, ("a cat", "a dog"), asked)


def erase_two(g: Graph) -> None:
    """Two vectors, added."""
    shown, recipes = "clock", (CAT_OF_TWO, DOG_OF_TWO)
    first, second = (recipe.concept for recipe in recipes)
    source = load(g, notes.ABOUT_TWO.format(first=first, second=second))
    between, below = TOP + 960, TOP + 1830
    kept = retained_pictures(g, source, CAT_OF_TWO, (720, between))
    g.group("2 What must stay of both", [kept], GREEN)
    vectors = []
    for recipe, top in zip(recipes, (TOP, below), strict=True):
        pictures = drawn_pictures(g, source, recipe, f"1 Pictures of {recipe.concept}", top)
        group = f"2 Learn {recipe.concept}, take the difference, save"
        vectors.append(learned(g, source, pictures, recipe, group, top, kept))
    both = g.add("TVEraseCombineTaskVectors", (1440, TOP), first=vectors[0], second=vectors[1])
    erased = subtracted(g, (1440, TOP + 250), source, both.out(), CAT_OF_TWO.strength)
    g.note((340, NOTES), notes.STAGE_1, (320, NOTES_HIGH))
    g.note((720, NOTES), notes.STAGE_2_RETAINED, (660, NOTES_HIGH))
    g.note((1440, NOTES), notes.STAGE_TWO, (300, NOTES_HIGH))
    g.group("3 Add, then subtract", [both, erased], RED)
    prompts = tuple(f"a {name}" for name in (first, second, shown))
    asked = notes.COMPARE_THREE.format(kept=shown)
    compare(g, 1800, 4, source, erased.out(), CAT_OF_TWO, prompts, asked)
