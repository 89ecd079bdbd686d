"""What an erasure did, as canonical JSON; the Markdown is a view of that JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import ConfigError
from ..judging.scoring import HIT, ScoreRow
from ..judging.statistics import bootstrap_ratio, wilson
from .text import markdown

SCHEMA = "tverase/erase-report/1"
NEVER_MEASURED = (
    "Inpainting and completing a picture that already shows the concept.",
    "Fine-tuning the erased model on the concept again.",
    "Undoing the edit with the published task vector or base model.",
)


@dataclass(frozen=True, slots=True)
class EraseReport:
    """Paired rows and all that is needed to redo the run.

    inputs: by role ("task_vector", "base", ...), each with its content hash and file name.
    settings: sampler, steps, cfg, size, strength, mask. choice and curve: from the search.
    pictures: file name and sha256 each. environment: torch, device, dtype, host version.
    Nothing here may hold absolute paths or user names. Values must be plain JSON data.
    """

    concept: str
    rows: Sequence[ScoreRow]
    inputs: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    choice: Mapping[str, Any] | None = None
    curve: Mapping[str, Any] | None = None
    pictures: Sequence[Mapping[str, str]] = ()
    warnings: Sequence[str] = ()
    not_measured: Sequence[str] = field(default=NEVER_MEASURED)

    def document(self) -> dict[str, Any]:
        """The report as plain data, aggregates included. Raises ConfigError without target rows."""
        if not any(row.role == "target" for row in self.rows):
            raise ConfigError(f"Report on {self.concept!r}: no row has the role 'target'.")
        return {
            "schema": SCHEMA,
            "concept": self.concept,
            "hit_threshold": HIT,
            "inputs": {name: dict(entry) for name, entry in self.inputs.items()},
            "settings": dict(self.settings),
            "environment": dict(self.environment),
            "choice": dict(self.choice) if self.choice else None,
            "curve": dict(self.curve) if self.curve else None,
            "pictures": [dict(entry) for entry in self.pictures],
            "warnings": list(self.warnings),
            "not_measured": list(self.not_measured),
            "rows": [asdict(row) for row in self.rows],
            "concepts": _by_concept(self.rows),
            "triggers": _by_trigger(self.rows),
            "summary": summary(self.rows),
        }

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, shortest floats, no NaN; equal reports, equal bytes."""
        document = self.document()
        try:
            text = json.dumps(
                document, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False
            )
        except ValueError as error:
            raise ConfigError(
                f"Report on {self.concept!r}: a value is NaN or infinite. Give null and a reason."
            ) from error
        return text + "\n"

    def to_markdown(self) -> str:
        """The same for a reader; takes every number from the JSON."""
        return markdown(json.loads(self.to_json()))


def rate(scores: Iterable[float]) -> dict[str, Any]:
    """Hits, n, rate and Wilson interval of a judge's probabilities; rate is null for n = 0."""
    hits = [score >= HIT for score in scores]
    interval = wilson(sum(hits), len(hits))
    return {
        "hits": sum(hits),
        "n": len(hits),
        "rate": sum(hits) / len(hits) if hits else None,
        "interval": list(interval),
    }


def _both(rows: Sequence[ScoreRow]) -> dict[str, Any]:
    return {
        "base": rate(row.base for row in rows),
        "erased": rate(row.erased for row in rows),
    }


def _by_concept(rows: Sequence[ScoreRow]) -> list[dict[str, Any]]:
    names = dict.fromkeys((row.role, row.concept) for row in rows)
    return [
        {
            "role": role,
            "concept": concept,
            **_both([row for row in rows if (row.role, row.concept) == (role, concept)]),
        }
        for role, concept in names
    ]


def _by_trigger(rows: Sequence[ScoreRow]) -> list[dict[str, Any]]:
    names = dict.fromkeys(row.trigger for row in rows if row.role == "target")
    return [
        {
            "trigger": name,
            **_both([row for row in rows if row.role == "target" and row.trigger == name]),
        }
        for name in names
    ]


def summary(rows: Sequence[ScoreRow]) -> dict[str, Any]:
    """The headline figures.

    target_before, target_after: pooled over triggers. worst_trigger: the highest erased rate.
    retained_ratio: mean over retained concepts of the erased hit rate, over that of the base,
    with a paired bootstrap interval; null with a reason when nothing retained was measured.
    """
    target = [row for row in rows if row.role == "target"]
    triggers = _by_trigger(rows)
    worst = max(triggers, key=lambda entry: entry["erased"]["rate"])
    groups: dict[str, tuple[list[float], list[float]]] = {}
    for row in rows:
        if row.role == "retained":
            before, after = groups.setdefault(row.concept, ([], []))
            before.append(float(row.base >= HIT))
            after.append(float(row.erased >= HIT))
    before_rate, after_rate = _both(target).values()
    return {
        "target_before": before_rate,
        "target_after": after_rate,
        "reduced": after_rate["rate"] < before_rate["rate"],
        "worst_trigger": {"trigger": worst["trigger"], **worst["erased"]},
        "retained_ratio": _retained(list(groups.values())),
    }


def _retained(groups: list[tuple[list[float], list[float]]]) -> dict[str, Any]:
    count = sum(len(before) for before, _ in groups)
    empty = {"value": None, "interval": None, "n": count}
    if not groups:
        return {**empty, "reason": "no retained prompts were given"}
    before, after = (
        sum(sum(group[side]) / len(group[side]) for group in groups) for side in (0, 1)
    )
    if before == 0:
        return {**empty, "reason": "the judge saw none of the retained concepts on the base model"}
    interval = bootstrap_ratio(groups)
    return {"value": after / before, "interval": list(interval) if interval else None, "n": count}
