"""Draws the pictures of help pages and workflows with the demo model: `python dev.py pictures`.

They are what the nodes themselves show. demo/pictures/cats, which Load Images from Folder offers,
comes from here as well. With `--only two measured` just those stages are drawn.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

import torch  # noqa: E402 - after the path is set
from PIL import Image, ImageDraw, ImageFont  # noqa: E402

from devtools import help_pictures, in_process  # noqa: E402
from devtools.studio import DRAWING, PictureMaker  # noqa: E402
from workflows.checkpoint_graphs import SD15, SDXL  # noqa: E402
from workflows.demo_graphs import (  # noqa: E402
    AUTO,
    CAT_OF_TWO,
    DEMO,
    DOG_OF_TWO,
    FLOW,
    IN_STYLE,
    INVERT,
    RETAINED,
    SHARE,
    SHIPPED_COUNT,
    STYLE,
    STYLE_WORDS,
    SUBJECTS,
    WORDS,
)
from workflows.flow_families import FAMILIES  # noqa: E402
from workflows.graph_parts import STYLES  # noqa: E402

HELP, THUMBNAILS = help_pictures.FOLDER, ROOT / "workflows"
CATS = ROOT / "demo" / "pictures" / "cats"
CATS_ASKED = ("a cat", *(f"a cat in {style} style" for style in STYLES))
CATS_DRAWN, CATS_SEED = 30, 7  # of each prompt; the most different ones are shipped
COLOURS = 96  # of a help picture: small files, no visible loss
NORMS_LINES = "A vector from a file", "is subtracted"
STRENGTH_LINES = "How much to subtract,", "found by measurement"
CARD = (400, 400)  # a thumbnail: template cards are square


def help_picture(name: str, picture: Image.Image, widest: int = 640) -> None:
    """A small PNG for the help pages."""
    if picture.width > widest:
        size = (widest, round(picture.height * widest / picture.width))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    HELP.mkdir(parents=True, exist_ok=True)
    picture.convert("RGB").quantize(COLOURS).save(HELP / f"{name}.png", optimize=True)
    print(f"wrote web/docs/images/{name}.png", flush=True)


def tile(image: torch.Tensor, edge: int) -> Image.Image:
    pixels = (image[..., :3].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return Image.fromarray(pixels).resize((edge, edge), Image.Resampling.LANCZOS)


def thumbnail(name: str, picture: Image.Image) -> None:
    """The picture that the template browser shows."""
    picture.save(THUMBNAILS / f"{name}.jpg", quality=82, optimize=True)
    print(f"wrote workflows/{name}.jpg", flush=True)


def rows_card(rows: Sequence[torch.Tensor], labels: Sequence[str]) -> Image.Image:
    """Two rows of three pictures, twice their size, with their names."""
    edge, gap, head = 128, 4, 46
    card = Image.new("RGB", CARD, "white")
    pen, font = ImageDraw.Draw(card), ImageFont.load_default(26)
    for r, (images, label) in enumerate(zip(rows, labels, strict=True)):
        top = 14 + r * (head + edge + 24)
        pen.text((gap + 4, top + 6), label, fill="black", font=font)
        for c, image in enumerate(images[:3]):
            card.paste(tile(image, edge), (gap + c * (edge + gap), top + head))
    return card


def plot_card(plot: Image.Image, lines: Sequence[str]) -> Image.Image:
    """A plot under a few words."""
    card = Image.new("RGB", CARD, "white")
    pen, font = ImageDraw.Draw(card), ImageFont.load_default(26)
    for place, line in enumerate(lines):
        pen.text((16, 16 + 34 * place), line, fill="black", font=font)
    small = plot.convert("RGB")
    small.thumbnail((CARD[0], CARD[1] - 110), Image.Resampling.LANCZOS)
    card.paste(small, ((CARD[0] - small.width) // 2, 100 + (CARD[1] - 100 - small.height) // 2))
    return card


def text_card(lines: Sequence[str]) -> Image.Image:
    """For workflows whose pictures depend on the user's checkpoint."""
    card = Image.new("RGB", CARD, "#1f2937")
    pen = ImageDraw.Draw(card)
    pen.rectangle((0, 0, 12, CARD[1]), fill="#a1309b")
    for place, line in enumerate(lines):
        size = (40 if len(line) < 18 else 29) if place == 0 else 23
        pen.text((36, 124 + place * 58), line, fill="white", font=ImageFont.load_default(size))
    return card


def shipped_cats(s: PictureMaker) -> None:
    """The folder that can be loaded at once: pictures that differ, as a user's own would.

    The model mostly draws faces. Learned from faces alone, the erased model draws walking cats.
    """
    CATS.mkdir(parents=True, exist_ok=True)
    judge = s.run("TVEraseDemoJudge")[0]
    chosen = []
    for prompt in CATS_ASKED:
        drawn = s.draw(s.model, [prompt], CATS_DRAWN, CATS_SEED)
        plain = drawn[judge.score(drawn, "cat") >= 0.9]
        chosen += plain[most_different(plain, SHIPPED_COUNT // len(CATS_ASKED))]
    for number, image in enumerate(chosen):
        tile(image, DEMO.size).save(CATS / f"cat_{number:02}.png", optimize=True)
    print("wrote demo/pictures/cats", flush=True)


def most_different(images: torch.Tensor, count: int) -> list[int]:
    """Rows of the picture nearest to all, then of each that is farthest from those chosen."""
    small = torch.nn.functional.avg_pool2d(images.movedim(-1, 1), 4).flatten(1)
    apart = torch.cdist(small, small)
    rows = [int(apart.sum(1).argmin())]
    while len(rows) < count:
        rows.append(int(apart[:, rows].amin(1).argmax()))
    return rows


def first_pictures(s: PictureMaker) -> None:
    """What the model draws, and which blocks there are."""
    compare = s.module("nodes.pictures.compare").compare_grid
    rows = []
    for style in STYLES:
        prompts = [f"a {subject} in {style} style" for subject in SUBJECTS]
        rows.append((f"{style} style", s.draw(s.model, prompts, len(prompts))))
    help_picture("demo_model", compare(rows, 8))
    help_picture("pictures", compare([("a cat", s.draw(s.model, ["a cat"], 8))], 8))
    s.run("TVEraseBlockMask", model=s.model, preset="custom", rules="kind:cross_attn")
    help_picture("block_mask", s.shown[0])


def checkpoint_cards(_: PictureMaker) -> None:
    """Of the workflows for the user's own files."""
    titles = {name: (family.title, family.size) for name, family in FAMILIES.items()}
    titles["erase_concept_sd15"] = "Stable Diffusion 1.5", SD15.size
    titles["erase_concept_sdxl"] = "Stable Diffusion XL", SDXL.size
    for name, (title, size) in titles.items():
        lines = (title, "Erase a concept from", f"your own checkpoint, {size} pixels")
        thumbnail(name, text_card(lines))


def norm_map(s: PictureMaker, vector: Any) -> Image.Image:
    """How much the vector changes each block and kind of layer."""
    weights, maps = s.module("nodes.host.model.weights"), s.module("nodes.pictures.block_map")
    layout, sums = weights.layout_of(s.model), {}
    for key, delta in vector.deltas.items():
        place = layout.locate(key)
        sums[place] = sums.get(place, 0.0) + float(delta.float().square().sum())
    values = {place: total**0.5 for place, total in sums.items()}
    blocks = [b for b in layout.blocks() if any(place[0] == b for place in values)]
    return maps.value_map(values, blocks, "How much each part changed", "length of the change")


def erased_pictures(s: PictureMaker) -> None:
    """Learning, the vector, before and after."""
    vector = s.learn(DEMO)[1]
    help_picture("loss", s.shown[0])
    norms = norm_map(s, vector)
    help_picture("norms", norms)
    thumbnail("apply_vector", plot_card(norms, NORMS_LINES))
    erased = s.erase(vector)
    both = [s.draw(model, ["a cat"], 8) for model in (s.model, erased)]
    s.run("TVEraseBeforeAfterGrid", before=both[0], after=both[1], title="a cat")
    help_picture("before_after", s.shown[0])
    thumbnail("erase_concept", rows_card(both, ("a cat", "the same seeds, erased")))


def with_words(s: PictureMaker, words: Mapping[str, Any], vector: Any, share: float = 1.0) -> Any:
    """UCE's edit of the words and a share of the vector, added."""
    edit = s.run("TVEraseUCE", model=s.model, clip=s.clip, **words)[0]
    both = {"first": edit, "second": vector, "second_factor": share}
    return s.run("TVEraseCombineTaskVectors", **both)[0]


def style_pictures(s: PictureMaker) -> None:
    """A style: its words and a learned vector, added."""
    style = s.erase(with_words(s, STYLE_WORDS, s.learn(IN_STYLE)[1]), IN_STYLE.strength)
    both = [s.draw(model, IN_STYLE.prompts, 8) for model in (s.model, style)]
    thumbnail("erase_style", rows_card(both, (f"{STYLE} style", "the same seeds, erased")))


def your_pictures(s: PictureMaker) -> None:
    """The concept as pictures in a folder, learned and erased."""
    images = s.run("TVEraseLoadImageFolder", width=DEMO.size, height=DEMO.size)[0]
    parts = {"model": s.model, "clip": s.clip, "vae": s.vae}
    cats = s.run("TVEraseConceptSetFromImages", images=images, concept=DEMO.concept, **parts)[0]
    erased = s.draw(s.erase(s.vector_of(cats, DEMO)), ["a cat"], 8)
    rows = images, erased
    thumbnail("erase_from_images", rows_card(rows, ("your pictures", "drawn after erasing")))


def two_concepts(s: PictureMaker) -> None:
    """Two vectors: how alike they are, what each takes of the other, both erased."""
    cats, dogs = (s.learn(recipe)[1] for recipe in (CAT_OF_TWO, DOG_OF_TWO))
    s.run("TVEraseCompareTaskVectors", first=cats, second=dogs)
    help_picture("interference", s.shown[0])
    judge = s.run("TVEraseDemoJudge")[0]
    strengths = {f"{place}_strength": CAT_OF_TWO.strength for place in ("first", "second")}
    parts = {"model": s.model, "clip": s.clip, "vae": s.vae, "judge": judge}
    s.run("TVEraseMeasureInterference", first=cats, second=dogs, **parts, **strengths, **DRAWING)
    help_picture("damage", s.shown[0])
    sum_of_both = s.run("TVEraseCombineTaskVectors", first=cats, second=dogs)[0]
    erased = s.erase(sum_of_both, CAT_OF_TWO.strength)
    both = [s.draw(model, ["a cat", "a dog"], 8) for model in (s.model, erased)]
    s.run("TVEraseBeforeAfterGrid", before=both[0], after=both[1], title="a cat, a dog")
    help_picture("two_concepts", s.shown[0])
    thumbnail("erase_two_concepts", rows_card(both, ("a cat, a dog", "the same seeds, erased")))


def measured_pictures(s: PictureMaker) -> None:
    """A short run of what erase_concept_auto measures at length."""
    cats, vector = s.learn(AUTO)
    judge = s.run("TVEraseDemoJudge")[0]
    short = {**INVERT, "count": 4, "steps": 150, "restarts": 1}
    base = {"model": s.model, "clip": s.clip}
    found = s.run(
        "TVEraseDiverseInversion",
        vae=s.vae,
        concept_set=cats,
        judge=judge,
        **base,
        **short,
        **DRAWING,
    )[0]
    help_picture("inversions", s.shown[0])
    help_picture("cosines", s.shown[-1])
    s.run(
        "TVEraseAutoBlockMask",
        task_vector=vector,
        concept_set=cats,
        inversion_set=found,
        retained=RETAINED,
        probes=8,
        **base,
        **DRAWING,
    )
    help_picture("ranking", s.shown[0])
    both = with_words(s, WORDS, vector, SHARE)
    strength = s.run(
        "TVEraseAutoStrength",
        vae=s.vae,
        task_vector=both,
        inversion_set=found,
        judge=judge,
        retained=RETAINED,
        when_infeasible="nearest",
        step=0.2,
        **base,
        **DRAWING,
    )[0]
    help_picture("strength", s.shown[0])
    thumbnail("erase_concept_auto", plot_card(s.shown[0], STRENGTH_LINES))
    rows = before_and_after(s, s.erase(both, strength), ("cat", "dog", "heart", "car"))
    help_picture("before_after_auto", s.module("nodes.pictures.compare").compare_grid(rows, 8))


def before_and_after(
    s: PictureMaker, erased: Any, names: Sequence[str]
) -> list[tuple[str, torch.Tensor]]:
    """Labelled rows of a grid: each thing by the model and by the erased one, at equal seeds."""
    models = {"before": s.model, "after": erased}
    return [
        (f"a {name}: {when}", s.draw(model, [f"a {name}"], 8))
        for name in names
        for when, model in models.items()
    ]


def baseline_pictures(s: PictureMaker) -> None:
    """Short runs of the baselines: losses, and what is pruned."""
    cats, _ = s.latents(s.model, DEMO.prompts, 32, 1, DEMO.concept)
    given = {"model": s.model, "clip": s.clip}
    pace = {"erase_steps": 60, "attack_steps": 80, "final_steps": 120, "batch_size": 4}
    rates = {name: 1e-4 for name in ("erase_learning_rate", "final_learning_rate")}
    s.run(
        "TVEraseSTEREO",
        **given,
        concept_set=cats,
        anchors="\n".join(f"a {DEMO.concept} in {style} style" for style in STYLES),
        attack_learning_rate=0.05,
        rounds=2,
        samples="noised pictures",
        **pace,
        **rates,
    )
    help_picture("stereo", s.shown[0])
    s.run("TVEraseFewShot", **given, concept_set=cats, learning_rate=2e-3)
    help_picture("few_shot", s.shown[0])
    pruned = s.run("TVEraseConceptPrune", **given, concept=DEMO.concept, **DRAWING)[0]
    help_picture("pruned", norm_map(s, pruned))


def flow_pictures(s: PictureMaker) -> None:
    """The transformer: what it draws, before and after."""
    flow = PictureMaker(s.pack, s.temp, "flow", FLOW.draw)
    compare = flow.module("nodes.pictures.compare").compare_grid
    rows = []
    for style in STYLES:
        prompts = [f"a {subject} in {style} style" for subject in SUBJECTS]
        rows.append((f"{style} style", flow.draw(flow.model, prompts, len(prompts))))
    help_picture("demo_flow", compare(rows, 8))
    erased = flow.erase(flow.learn(FLOW)[1], FLOW.strength)
    rows = before_and_after(flow, erased, ("cat", "dog"))
    for workflow, first, label in (
        ("erase_concept_flow", 0, "the same seeds, erased"),
        ("erase_concept_flow_auto", 2, "the cat erased"),
    ):
        both = [images for _, images in rows[first : first + 2]]
        asked = rows[first][0].partition(":")[0]
        thumbnail(workflow, rows_card(both, (asked, label)))


STAGES = {
    "cats": shipped_cats,
    "first": first_pictures,
    "cards": checkpoint_cards,
    "erased": erased_pictures,
    "style": style_pictures,
    "yours": your_pictures,
    "two": two_concepts,
    "measured": measured_pictures,
    "baselines": baseline_pictures,
    "flow": flow_pictures,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True, help="a ComfyUI source tree")
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES), help="stages")
    options = parser.parse_args()
    host, pack = in_process.import_host(options.comfyui), in_process.load_pack()
    with tempfile.TemporaryDirectory() as temp, torch.inference_mode():
        host.folder_paths.set_temp_directory(temp)
        studio = PictureMaker(pack, Path(temp))
        for stage in options.only:
            STAGES[stage](studio)
    for page in help_pictures.set_links():
        print("linked", f"web/docs/{page}")


if __name__ == "__main__":
    main()
