"""Documents link and quote rightly; the README has tests of its own."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from host_support.places import ROOT

DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "demo/*.md", "web/docs/*.md")
    for path in ROOT.glob(pattern)
)


def model_card() -> Any:
    spec = importlib.util.spec_from_file_location("model_card", ROOT / "demo" / "model_card.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s#]+)", path.read_text("utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_model_card_quotes_the_figures() -> None:
    module = model_card()
    card = module.CARD.read_text("utf-8")
    assert module.render(card) == card, "run demo/model_card.py"
    assert all(mark in card for mark in module.FIGURES)


def test_a_card_without_marks_is_refused() -> None:
    module = model_card()
    with pytest.raises(ValueError, match="marks"):
        module.render("no marks here")


def test_decision_records_are_numbered_without_gaps() -> None:
    names = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("*.md"))
    assert [name[:4] for name in names] == [f"{k:04}" for k in range(1, len(names) + 1)]
