"""Baseline erasers. Each makes deltas towards the concept, like a task vector's."""

from .esd import EsdConfig, EsdResult, esd, esd_keys, from_latents, from_sampling
from .uce import UceConfig, context_keys, expanded, last_word_vectors, uce

__all__ = [
    "EsdConfig",
    "EsdResult",
    "UceConfig",
    "context_keys",
    "esd",
    "esd_keys",
    "expanded",
    "from_latents",
    "from_sampling",
    "last_word_vectors",
    "uce",
]
