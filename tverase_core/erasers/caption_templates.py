"""Captions for pictures of a concept whose name stands for each `{}`; our own wording."""

from __future__ import annotations

TEMPLATES = (
    "a {}",
    "the {}",
    "a photo of a {}",
    "a picture of one {}",
    "a drawing of a {}",
    "a painting of the {}",
    "a {} seen up close",
    "a {} seen from afar",
    "a plain image with a {} in it",
    "here is a {}",
)
