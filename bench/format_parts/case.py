"""One file of a tool, and what the same tool makes of it: the difference that is right.

Imported in the tools' environment and in the project's; needs torch and safetensors only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

MANIFEST = "manifest.jsonl"


@dataclass(frozen=True)
class Case:
    """Paths are below the bench's work folder.

    base, tuned: what a user gives the pack. merged: the tool's merged model, as the tool saves it,
    or "". expected: file of the right deltas, by the names in `naming`. way: how a refusal's
    advice is followed, see `ways`.
    """

    name: str
    tool: str
    base: str
    tuned: str
    expected: str
    naming: str = "diffusers"
    merged: str = ""
    edited_only: bool = False
    stored: str = "float32"


def note(work: Path, case: Case, deltas: Mapping[str, torch.Tensor]) -> None:
    """Write the right deltas and enter the case in the manifest."""
    kept = {name: delta.float().contiguous() for name, delta in deltas.items() if delta.any()}
    save_file(kept, work / case.expected)
    with (work / MANIFEST).open("a") as file:
        file.write(json.dumps(asdict(case)) + "\n")


def noted(work: Path) -> list[Case]:
    lines = (work / MANIFEST).read_text().splitlines()
    return [Case(**json.loads(line)) for line in lines]


def expected_deltas(work: Path, case: Case) -> dict[str, torch.Tensor]:
    return load_file(work / case.expected)


def difference(
    merged: Mapping[str, torch.Tensor], base: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """merged - base in float32; what merged lacks has not changed."""
    return {name: merged[name].float() - base[name].float() for name in merged if name in base}
