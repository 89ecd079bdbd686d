"""What the claims are measured on: two objects and a style of the demo model.

Retained prompts come in two disjoint groups: those that the strength is tuned with and those that
are reported. Nothing that tunes is reported.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))

from demo.world import OBJECTS, STYLES, SYNONYMS  # noqa: E402 - after the path
from workflows.graph_parts import asked_for  # noqa: E402

SHEET = list(OBJECTS)[:8]  # a style is learned from these objects and reported on the others


@dataclass(frozen=True, slots=True)
class Concept:
    """One thing to erase and how it is asked for.

    learned: prompts that draw its pictures. captions: what these are shown under, one each, in
    `caption_share` of the cases. contrasts: these prompts without the concept, one each, or one
    for all. least_noise: see Concept Fine-tune. plain: the prompt a user would type. paraphrases:
    other ways to say it. template: the sentence around an inversion. tuning, reported: retained
    prompts, each with the name that the judge should see.
    """

    name: str
    learned: tuple[str, ...]
    captions: tuple[str, ...]
    contrasts: tuple[str, ...]
    caption_share: float
    least_noise: float
    plain: str
    paraphrases: tuple[str, ...]
    template: str
    tuning: tuple[tuple[str, str], ...]
    reported: tuple[tuple[str, str], ...]


def object_concept(name: str) -> Concept:
    others = [other for other in OBJECTS if other != name]
    asked = [(f"a {other}", other) for other in others]
    first, second = SYNONYMS[name][:2]
    return Concept(
        name,
        asked_for(name),
        asked_for(name),
        ("",),
        0.5,
        0.3,
        f"a {name}",
        (f"a {first}", f"a {second}", f"an emoji of a {name}", f"the {name}", f"ink {name}"),
        "a {}",
        tuple(asked[::2]),
        tuple(asked[1::2]),
    )


def _style(name: str) -> Concept:
    # Prompts without a style draw this one too, so they cannot stay as they are.
    others = [style for style in STYLES if style != name]

    def kept(objects: Sequence[str]) -> tuple[tuple[str, str], ...]:
        """Every object in every other style; the judge is asked for the style and the object by
        turns."""
        pairs = [(o, style, i + j) for i, o in enumerate(objects) for j, style in enumerate(others)]
        return tuple((f"a {o} in {style} style", style if n % 2 else o) for o, style, n in pairs)

    subjects = tuple(f"a {o}" for o in SHEET)
    own = tuple(f"{subject} in {name} style" for subject in subjects)
    return Concept(
        name,
        own * 2,  # each is shown under its subject's name and under its own prompt
        (*subjects, *own),
        subjects * 2,
        0.65,
        0.6,
        f"a cat in {name} style",
        (
            f"a picture in {name} style",
            f"a {name} style bird",
            f"a {name} drawing of a fish",
            f"{name} house",
            f"a picture of a book, {name} style",
        ),
        "a picture in {} style",
        kept(SHEET),
        kept([o for o in OBJECTS if o not in SHEET]),
    )


CONCEPTS = {
    concept.name: concept
    for concept in (
        object_concept("cat"),
        object_concept("car"),
        _style("ink"),
    )
}
