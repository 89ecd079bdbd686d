"""How often a checkpoint's weight is read when it is edited: `python dev.py bench weight_reads`.

`bench/results/house.json` holds it as `weight_reads_per_edit`. A weight that is read more than once
makes the edit of a checkpoint of many GB as much slower.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

from tverase_core.files.apply import apply_to_file  # noqa: E402 - after the path
from tverase_core.files.checkpoint import CheckpointFile  # noqa: E402
from tverase_core.files.checkpoint_fingerprint import file_fingerprint  # noqa: E402
from tverase_core.vector.task_vector import TaskVector  # noqa: E402

PREFIX = "diffusion_model."
# More values than the sample that tells who a model is: reading that is no read of the weight.
SIZES = {
    PREFIX + "input_blocks.1.0.in_layers.2.weight": (64, 64, 3, 3),
    PREFIX + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (64, 128),
    PREFIX + "middle_block.1.proj_in.weight": (96, 96),
    PREFIX + "out.2.weight": (32, 64, 3, 3),
}
EDITED = tuple(SIZES)[:3]


def weight_reads_per_edit() -> float:
    """Reads of a whole weight, by weight that is edited, of one `apply_to_file`."""
    reads: Counter[str] = Counter()
    plain = CheckpointFile.read

    def counted(
        self: CheckpointFile, key: str, first: int = 0, count: int | None = None
    ) -> torch.Tensor:
        found = plain(self, key, first, count)
        reads[key] += found.numel() == self.weights[key].numel
        return found

    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base.safetensors"
        save_file({key: torch.ones(size) for key, size in SIZES.items()}, base)
        with CheckpointFile(base) as checkpoint:
            who: Any = file_fingerprint(checkpoint, "epsilon")
        vector = TaskVector({key: torch.ones(SIZES[key]) for key in EDITED}, who)
        with patch.object(CheckpointFile, "read", counted):
            made = apply_to_file(base, vector, 1.0, Path(folder) / "erased.safetensors")
    return sum(reads.values()) / made.changed


if __name__ == "__main__":
    sys.stdout.write(f"weight_reads_per_edit {weight_reads_per_edit():g}\n")
