"""Which model an open file holds."""

from __future__ import annotations

import hashlib

from torch import Tensor

from ..model.fingerprint import BaseFingerprint, architecture_of, sampled_runs
from ..model.sample_values import packed
from ..tensors import tensor_bytes
from .checkpoint import CheckpointFile


def file_fingerprint(checkpoint: CheckpointFile, prediction: str) -> BaseFingerprint:
    """Who an open model is; a little of each weight is read (`fingerprint.sample_sha256`)."""
    digest, middles = hashlib.sha256(), list[Tensor]()
    for key in sorted(checkpoint.weights):
        runs = sampled_runs(checkpoint.weights[key].numel)
        for number, (first, count) in enumerate(runs):
            values = checkpoint.read(key, first, count)
            digest.update(tensor_bytes(values))
            if number == len(runs) // 2:
                middles.append(values[count // 2 if len(runs) == 1 else 0])
    checkpoint.check_unchanged()
    return BaseFingerprint(
        architecture_of(checkpoint.sizes(), prediction),
        checkpoint.key_digest(),
        digest.hexdigest(),
        checkpoint.dtype(),
        checkpoint.name,
        packed(middles),
    )
