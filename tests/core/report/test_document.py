from __future__ import annotations

import json
from dataclasses import replace

import pytest

from host_support.places import DATA
from tverase_core.errors import ConfigError
from tverase_core.judging.scoring import ScoreRow
from tverase_core.report.document import EraseReport


def rows() -> list[ScoreRow]:
    target = [
        ScoreRow("target", "cat", trigger, seed, 0.9, 0.9 if (trigger, seed) == ("<0>", 1) else 0.1)
        for trigger in ("a cat", "<0>")
        for seed in (1, 2)
    ]
    kept = [ScoreRow("retained", "dog", "a dog", s, 0.75, 0.75 if s < 4 else 0.0) for s in range(5)]
    return target + kept


REPORT = EraseReport(
    concept="cat",
    rows=rows(),
    inputs={"task_vector": {"file": "cat.tv.safetensors", "sha256": "ab12"}},
    settings={"cfg": 3.0, "strength": 1.5, "mask": {"blocks": {}, "kinds": {}}},
    environment={"torch": "2.9", "device": "cpu"},
    choice={"strength": 1.5, "reason": "smallest that suppresses every trigger"},
    pictures=[{"file": "grid.png", "sha256": "cd34"}],
    warnings=["The prompt 'a cat house' contains the concept's word."],
)


@pytest.mark.parametrize(("ending", "text"), [("json", "to_json"), ("md", "to_markdown")])
def test_golden(ending: str, text: str) -> None:
    golden = (DATA / f"tiny.erase-report.{ending}").read_text(encoding="utf-8")
    assert getattr(REPORT, text)() == golden


def test_aggregates_by_hand() -> None:
    summary = json.loads(REPORT.to_json())["summary"]
    assert summary["target_before"]["rate"] == 1
    assert summary["target_after"] == {
        "hits": 1,
        "n": 4,
        "rate": 0.25,
        "interval": pytest.approx([0.0456, 0.6994], abs=1e-4),
    }
    assert summary["worst_trigger"]["trigger"] == "<0>"
    assert summary["worst_trigger"]["rate"] == 0.5
    assert summary["retained_ratio"]["value"] == pytest.approx(0.8)
    assert summary["retained_ratio"]["n"] == 5


def test_nothing_retained_is_null_with_a_reason() -> None:
    report = replace(REPORT, rows=[row for row in rows() if row.role == "target"])
    kept = json.loads(report.to_json())["summary"]["retained_ratio"]
    assert kept["value"] is None
    assert "no retained" in kept["reason"]
    assert "Retained: not known" in report.to_markdown()


def test_words_are_honest() -> None:
    text = REPORT.to_markdown()
    assert "Reduced from" in text
    assert "removed" not in text.lower()
    assert "Not measured" in text


def test_bad_reports_are_refused() -> None:
    with pytest.raises(ConfigError, match="target"):
        replace(REPORT, rows=[]).to_json()
    with pytest.raises(ConfigError, match="NaN"):
        replace(REPORT, settings={"cfg": float("nan")}).to_json()
