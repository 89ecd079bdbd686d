"""The layers of the core, bottom to top: a folder or file imports only what lies below it."""

from __future__ import annotations

CORE = (
    ("errors", "tensors", "patterns"),
    ("model", "storage", "schedule", "checks"),
    ("ports", "sentences"),
    ("vector", "concept_set"),
    ("files", "finetuning", "judging", "masks"),
    ("inversion", "strength"),
    ("erasers",),
    ("report",),
)
ABOVE = ("", "__main__")  # the front door and the command line stand above all


def part_of(module: str) -> str:
    """The folder or file of the core that a module belongs to; "" for the front door."""
    return module.split(".")[1] if "." in module else ""
