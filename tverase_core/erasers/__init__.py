"""Baseline erasers. Each makes deltas towards the concept, like a task vector's."""

from .caption_templates import TEMPLATES
from .concept_prune import (
    ColumnNorms,
    PruneConfig,
    PruneResult,
    concept_prune,
    prunable_keys,
)
from .esd import EsdConfig, EsdResult, esd, from_sampling
from .few_shot import (
    FewShotConfig,
    FewShotResult,
    captioned,
    few_shot,
    few_shot_keys,
)
from .stereo import StereoConfig, StereoResult, stereo
from .teaching import esd_keys, from_latents
from .uce import UceConfig, context_keys, last_word_vectors, sentences_ending_in, uce

__all__ = [
    "TEMPLATES",
    "ColumnNorms",
    "EsdConfig",
    "EsdResult",
    "FewShotConfig",
    "FewShotResult",
    "PruneConfig",
    "PruneResult",
    "StereoConfig",
    "StereoResult",
    "UceConfig",
    "captioned",
    "concept_prune",
    "context_keys",
    "esd",
    "esd_keys",
    "few_shot",
    "few_shot_keys",
    "from_latents",
    "from_sampling",
    "last_word_vectors",
    "prunable_keys",
    "sentences_ending_in",
    "stereo",
    "uce",
]
