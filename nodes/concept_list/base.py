"""The checkpoint that every concept of the list is taken out of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..demo_nodes import DemoModel
from .plan import DEMO, ConceptList


@dataclass(frozen=True, slots=True)
class Base:
    """The loaded checkpoint. identity: of its weights, for the status files."""

    model: Any
    clip: Any
    vae: Any
    identity: str


def load_base(plan: ConceptList) -> Base:
    """Raises ConfigError when the checkpoint lacks a part."""
    from ..host.app.stock_loaders import load_checkpoint
    from ..host.model.weights import fingerprint

    loaded = DemoModel().load() if plan.checkpoint == DEMO else load_checkpoint(plan.checkpoint)
    base = fingerprint(loaded[0])
    return Base(*loaded, f"{base.key_digest}:{base.sample_sha256}")
