"""Every number of the digits bench. A stored result counts only with the numbers it came from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

TRAINED_SHARE = 0.8  # of the digits; the judge's accuracy is that on the rest


@dataclass(frozen=True, slots=True)
class Settings:
    """How much of everything; the defaults are the bench's, tests take less.

    steps of the base, of each fine-tune, of inversions and of the neighbours' trainings; draws:
    pictures a grid point (the authors' 10); most_n: the largest attack; kept_draws: pictures of
    each other digit; tuning_draws: of each trigger while a strength is searched.
    """

    base_steps: int = 1200
    base_batch: int = 128
    base_rate: float = 2e-3
    judge_epochs: int = 6
    tune_steps: int = 240
    tune_batch: int = 128
    tune_rate: float = 1e-3
    steer_rate: float = 2e-4
    sampling_steps: int = 8
    inversions: int = 6
    inversion_steps: int = 60
    inversion_rate: float = 0.05
    esd_steps: int = 300
    esd_batch: int = 16
    esd_rate: float = 1e-3
    attack_steps: int = 60
    prune_draws: int = 64
    draws: int = 10
    most_n: int = 4
    kept_draws: int = 20
    tuning_draws: int = 24
    strength_step: float = 0.1
    most_strength: float = 12.0

    def digest(self) -> str:
        """Names these numbers."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16]
