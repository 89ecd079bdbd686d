"""Sentences around a name or a learned embedding, which stands for each `{}`; our own wording.

The sources (textual inversion, arXiv 2208.01618, and the methods and attacks after it) have 27 for
objects, 19 for styles and 2 for persons; so have we.
"""

from __future__ import annotations

OBJECT_SENTENCES = (
    "a {}",
    "the {}",
    "one {}",
    "here is a {}",
    "a photo of a {}",
    "a snapshot of the {}",
    "a picture of one {}",
    "an image with a {} in it",
    "a drawing of a {}",
    "a sketch of the {}",
    "a painting of the {}",
    "an icon of a {}",
    "a {} seen up close",
    "a {} seen from afar",
    "a {} in daylight",
    "a {} in dim light",
    "a blurred photo of a {}",
    "a sharp photo of the {}",
    "a small {}",
    "a big {}",
    "an old {}",
    "a new {}",
    "somebody's {}",
    "a strange {}",
    "an ordinary {}",
    "a {} on a plain background",
    "a photo of a {} in the middle",
)
STYLE_SENTENCES = (
    "{}",
    "in the style of {}",
    "a painting in the style of {}",
    "the painting in the style of {}",
    "a drawing in the style of {}",
    "a sketch in the style of {}",
    "a print in the style of {}",
    "a photo in the style of {}",
    "an image in the style of {}",
    "a landscape in the style of {}",
    "a portrait in the style of {}",
    "a still life in the style of {}",
    "a street scene in the style of {}",
    "a small picture in the style of {}",
    "a large canvas in the style of {}",
    "a dark picture in the style of {}",
    "a bright picture in the style of {}",
    "a detail of a painting in the style of {}",
    "a fine work in the style of {}",
)
PERSON_SENTENCES = ("{}", "a photo of {}")
SENTENCES = {"object": OBJECT_SENTENCES, "style": STYLE_SENTENCES, "person": PERSON_SENTENCES}
