"""What the pack makes of a case: the right difference, a refusal whose advice works, or a fault."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open

from bench.format_parts import by_comfyui
from bench.format_parts.case import Case, expected_deltas
from tverase_core.errors import TveraseError
from tverase_core.files.extract import Extraction, extract_between_files
from tverase_core.files.lora.extract import extract_from_lora, is_lora_file
from tverase_core.files.task_vector_file import load_task_vector

CLOSE = 1e-5
EPSILON = torch.finfo(torch.float32).eps
Outcome = Literal["exact", "refused", "wrong"]
# What a refusal may advise, told by its words, and how it is followed.
WAYS = {
    "let absent weights count as unchanged": "absent weights count as unchanged",
    "Merge it into the base with the tool": "merged with its tool, saved, given as the tuned model",
    "Use the safetensors file that it was made from": "the safetensors file it was made from",
    "Use the checkpoint in fp16, bf16, fp32": "the checkpoint that was quantised",
}


@dataclass(frozen=True)
class Result:
    """error: the largest ||got - right|| / ||right|| of a weight. way: what followed a refusal."""

    case: Case
    outcome: Outcome
    error: float
    sentence: str
    way: str = ""


def read(work: Path, case: Case) -> Result:
    right = _right(work, case)
    try:
        made = _extracted(work, case, work / case.tuned)
    except TveraseError as refusal:
        sentence = str(refusal).replace(str(work), "")
        return _follow(work, case, right, sentence)
    error = _error(work, case, right)
    return Result(case, "exact" if error <= CLOSE else "wrong", error, _said(made))


def _said(made: Extraction) -> str:
    return f"{made.tuned}. {made.sentence()}"


def _follow(work: Path, case: Case, right: Mapping[str, torch.Tensor], sentence: str) -> Result:
    way = next((how for words, how in WAYS.items() if words in sentence), "")
    if not way:
        return Result(case, "wrong", 1.0, sentence)
    more: dict[str, Any] = {"absent": "unchanged"} if way.startswith("absent") else {}
    tuned = case.tuned if more else case.merged
    try:
        _extracted(work, case, work / tuned, **more)
    except TveraseError as again:
        return Result(case, "wrong", 1.0, f"{sentence} Then: {again}", way)
    error = _error(work, case, right)
    return Result(case, "refused" if error <= CLOSE else "wrong", error, sentence, way)


def _extracted(work: Path, case: Case, tuned: Path, **more: Any) -> Extraction:
    job = extract_from_lora if is_lora_file(tuned) else extract_between_files
    return job(work / case.base, tuned, work / "out.tv.safetensors", **more)


def _right(work: Path, case: Case) -> dict[str, torch.Tensor]:
    deltas = expected_deltas(work, case)
    if case.naming == "comfyui":
        return deltas
    table = by_comfyui.keys(Path(case.base).stem)
    return {table[name]: delta for name, delta in deltas.items()}


def _error(work: Path, case: Case, right: Mapping[str, torch.Tensor]) -> float:
    """Of the worst weight, above what merging it in float32 rounds away; 1 for a foreign weight."""
    got = load_task_vector(work / "out.tv.safetensors").deltas
    if got.keys() - right.keys():
        return 1.0
    worst = 0.0
    with safe_open(work / f"{Path(case.base).stem}.safetensors", "pt") as base:
        for key, delta in right.items():
            found = got.get(key, torch.zeros_like(delta))
            rounded = EPSILON * float(base.get_tensor(f"model.{key}").norm())
            off = float((found - delta).norm())
            worst = max(worst, (off - rounded) / float(delta.norm()))
    return worst
