"""How a learning rate falls during an optimisation."""

from __future__ import annotations

import math


def half_cosine(step: int, steps: int) -> float:
    """From 1 at step 1 along half a cosine to almost 0 at step `steps`, counted from 1.

    arXiv 1608.03983, eq. 5, without restarts.
    """
    return (1 + math.cos(math.pi * (step - 1) / steps)) / 2
