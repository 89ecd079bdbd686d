"""Concept Inversion: search the edited model itself for an embedding that brings the concept back.

The attack of arXiv 2308.01508. It is adaptive: unlike the set that chose the strength, it sees the
edit. Its authors ran 5,000 steps from a coarse word; ours runs any number of independent attacks
in one batch.
"""

from __future__ import annotations

from dataclasses import replace

from ..concept_set import ConceptSet
from ..ports import Denoiser, Progress, TextEncoder
from .config import InversionConfig
from .engine import invert
from .inversion_set import InversionSet


def concept_inversion(
    edited: Denoiser,
    encoder: TextEncoder,
    pictures: ConceptSet,
    config: InversionConfig,
    progress: Progress,
) -> InversionSet:
    """`config.count` independent attacks on an edited denoiser; no diversity, no intervals.

    edited: the denoiser with the edit at work. Judge the result on the edited model; an attack only
    counts where the same search on the base model succeeds. Raises as `invert`.
    """
    free = replace(config, diversity=0.0, intervals=None)
    return invert(edited, encoder, pictures, free, progress)
