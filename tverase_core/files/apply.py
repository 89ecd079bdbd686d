"""An erased checkpoint from a checkpoint on disk and a task vector, without a host."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch

from ..errors import BaseMismatchError, ConfigError, FormatError, StrengthError, listed
from ..model.block_mask import BlockMask
from ..model.fingerprint import Verdict, check_base
from ..model.layout import TEXT_PREFIX, detect_layout
from ..model.mask_text import parse_mask
from ..ports import Progress, quiet
from ..storage.new_file import check_not_source, check_room, replacing
from ..tensors import tensor_bytes
from ..vector.erase import edits, masked_deltas, subtracted
from ..vector.rounding import Comparison, RoundingLoss
from ..vector.task_vector import TaskVector
from .checkpoint import CheckpointFile
from .checkpoint_fingerprint import file_fingerprint

BUFFER = 1 << 22


@dataclass(frozen=True, slots=True)
class Applied:
    """base: what the file was recognised as. changed: weights of which at least one value is
    another now. lost: what rounding to the weights' own number formats took of the edit, measured
    on a sample of each weight. verdict: how sure it is that the vector was made from this base,
    see BaseFingerprint."""

    base: str
    changed: int
    lost: RoundingLoss
    verdict: Verdict


def apply_to_file(
    base: str | os.PathLike[str],
    task_vector: TaskVector,
    strength: float,
    out: str | os.PathLike[str],
    mask_text: str = "",
    *,
    allow_other_weights: bool = False,
    progress: Progress = quiet,
) -> Applied:
    """Write `out`: the file `base` with W - strength * mask * delta in place of its weights.

    base: one file, of any form that CheckpointFile knows; all other tensors and the metadata stay
    as they are. mask_text: see `parse_mask`; empty is everything. Each weight is computed in
    float32 and rounded once to its own dtype. The file appears whole or not at all.
    Raises as `masked_deltas`, `subtracted`, `edits`, `check_base` and CheckpointFile do;
    BaseMismatchError for a vector of a text encoder; ConfigError, OSError; and StrengthError when
    rounding leaves nothing of the edit.
    """
    source, target = Path(base), Path(out)
    if source.is_dir() or source.suffix == ".json":
        raise ConfigError(
            f"{source.name}: apply writes one file, so it takes one. Give the single-file model."
        )
    check_not_source(target, (source,))
    _refuse_text_encoders(task_vector)
    with CheckpointFile(source) as checkpoint:
        sizes = checkpoint.sizes()
        layout = detect_layout(sizes)
        mask = parse_mask(mask_text, layout.blocks()) if mask_text.strip() else BlockMask.full()
        verdict = check_base(
            task_vector.base,
            file_fingerprint(checkpoint, task_vector.provenance.prediction or "epsilon"),
            allow_other_weights,
        )
        plan = subtracted(masked_deltas(task_vector, mask, layout, sizes), strength)
        size = source.stat().st_size
        check_room(target, size)
        changed, seen, total = 0, 0, Comparison()
        with replacing(target) as file:
            _copy(source, file, size)
            for edit in edits(lambda key: checkpoint.read(key).reshape(sizes[key]), plan):
                progress(seen, len(task_vector), f"subtracting {edit.key}")
                total.add_sample(edit.meant, edit.before, edit.after)
                file.seek(checkpoint.weights[edit.key].start)
                file.write(tensor_bytes(edit.after))
                seen, changed = seen + 1, changed + (not torch.equal(edit.before, edit.after))
            checkpoint.check_unchanged()
            if seen and not changed:
                raise StrengthError(
                    f"strength {strength:g} changes no value of {source.name}: the edit is smaller "
                    "than its number format can hold. Use a higher strength, or a base in a wider "
                    "format."
                )
        return Applied(checkpoint.described(), changed, total.loss(), verdict)


def _refuse_text_encoders(task_vector: TaskVector) -> None:
    text = [key for key in task_vector.deltas if key.startswith(TEXT_PREFIX)]
    if text:
        raise BaseMismatchError(
            f"the task vector changes {len(text)} weights of a text encoder ({listed(text)}), and "
            "apply changes the diffusion model of a file alone. Use Apply Negated TV to CLIP in "
            "ComfyUI, and save what it gives."
        )


def _copy(source: Path, file: BinaryIO, size: int) -> None:
    with source.open("rb") as original:
        left = size
        while left:
            piece = original.read(min(left, BUFFER))
            if not piece:
                raise FormatError(f"{source.name}: was cut while it was read. Copy it again.")
            left -= file.write(piece)
