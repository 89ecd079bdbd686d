from __future__ import annotations

from pathlib import Path

import pytest

from devtools.figures import (
    Figure,
    figures_document,
    figures_table,
    read_figures,
    write_figures,
)
from tverase_core.errors import ConfigError, FormatError


@pytest.mark.parametrize(
    ("figure", "met"),
    [
        (Figure(0.05, "<= 0.05"), True),
        (Figure(0.05, "< 0.05"), False),
        (Figure(0.9, ">= 0.85"), True),
        (Figure(3.0e6, "<= 3e7"), True),
        (Figure(0.1, "interval > 0", interval=(0.02, 0.2)), True),
        (Figure(0.1, "interval > 0", interval=(-0.02, 0.2)), False),
        (Figure(0.1, "interval > 0"), False),
        (Figure(None, "<= 0.05", reason="no GPU"), False),
        (Figure(0.5), None),
    ],
)
def test_met_is_computed(figure: Figure, met: bool | None) -> None:
    assert figure.met() is met


def test_file_round_trip_and_table(tmp_path: Path) -> None:
    figures = {
        "hit": Figure(0.03, "<= 0.05", 200, (0.01, 0.07), "rate"),
        "speed": Figure(None, reason="no GPU here"),
    }
    document = figures_document("claims", "python dev.py bench", "2026-01-01", {}, figures)
    path = tmp_path / "claims.json"
    write_figures(path, document)
    assert read_figures(path) == document
    assert document["figures"]["hit"]["met"] is True
    assert document["figures"]["speed"] == {"value": None, "reason": "no GPU here"}
    assert "| hit | 0.03 rate | 0.01 to 0.07 | 200 | <= 0.05 | yes |" in figures_table(document)
    assert "none: no GPU here" in figures_table(document)
    assert [p.name for p in tmp_path.iterdir()] == ["claims.json"]


def test_bad_figures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="reason"):
        Figure(None)
    with pytest.raises(ConfigError, match="finite"):
        Figure(float("nan"))
    with pytest.raises(ConfigError, match="form"):
        Figure(1.0, "about 5")
    for text in ("{", "[]", '{"schema": "other"}'):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(FormatError):
            read_figures(tmp_path / "x.json")
