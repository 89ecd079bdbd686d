"""`dev.py hosts`: a report becomes a row, and a row replaces its own version's only."""

from __future__ import annotations

from pathlib import Path

import pytest

from devtools import host_matrix
from devtools.figures import read_figures
from devtools.host_matrix import Row, document_of, render, row_of, version_of, with_row

REPORT = """<testsuites><testsuite>
<testcase name="test_a"/><testcase name="test_b[x]"><properties/></testcase>
<testcase name="test_c"><failure message="no">trace</failure></testcase>
<testcase name="test_d"><error message="no">trace</error></testcase>
<testcase name="test_e"><skipped type="pytest.skip" message="no browser">x</skipped></testcase>
<testcase name="test_f"><skipped type="pytest.skip" message="no browser">x</skipped></testcase>
</testsuite></testsuites>"""


def row(passed: int, failed: list[str] | None = None, skipped: dict[str, int] | None = None) -> Row:
    return Row("2026-01-02", "3.11", "2.13", passed, failed or [], skipped or {})


def test_a_report_is_counted(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT, "utf-8")
    found = row_of(report, "2026-01-02", "2.13")
    assert (found.passed, found.failed) == (2, ["test_c", "test_d"])
    assert found.skipped == {"no browser": 2}


def test_a_run_replaces_its_own_row_only() -> None:
    before = with_row(with_row({}, "2024-11", row(3)), "0.3.75", row(5, ["test_x"]))
    after = with_row(before, "0.3.75", row(6))
    assert after["2024-11"] == before["2024-11"]
    assert (after["0.3.75"]["passed"], after["0.3.75"]["failed"]) == (6, [])


def test_the_figures_are_the_newest_versions() -> None:
    known = with_row(with_row({}, "0.33.0", row(7, ["test_y"])), "0.3.75", row(9))
    made = document_of(with_row(known, "2024-11", row(3)), "2026-01-02")
    assert list(made["hosts"]) == ["0.33.0", "0.3.75", "2024-11"]
    assert made["figures"]["newest_host"] == {"value": "0.33.0"}
    failed = made["figures"]["newest_host_failed"]
    assert (failed["value"], failed["met"], failed["n"]) == (1, False, 8)


def test_the_page_tells_failures_and_reasons_and_keeps_the_rest() -> None:
    page = f"before\n{host_matrix.BEGIN}\nold\n{host_matrix.END}\nafter\n"
    known = with_row({}, "0.33.0", row(7, ["test_y"], {"no browser": 2}))
    told = render(page, known)
    assert "| 0.33.0 | 2026-01-02 | 3.11 | 2.13 | 7 | 1 | 2 |" in told
    assert "- **failed**: `test_y`" in told
    assert "- no browser (2 skipped)" in told
    assert "old" not in told
    assert (told.startswith("before\n"), told.endswith("\nafter\n")) == (True, True)
    with pytest.raises(ValueError, match="marks"):
        render("no marks", known)


def test_a_tree_says_its_version(tmp_path: Path) -> None:
    assert version_of(tmp_path, "2024-11") == "2024-11"
    (tmp_path / "comfyui_version.py").write_text('# made\n__version__ = "0.33.0"\n', "utf-8")
    assert version_of(tmp_path, "2024-11") == "0.33.0"


def test_the_committed_page_is_that_of_the_committed_rows() -> None:
    page = host_matrix.PAGE.read_text("utf-8")
    assert render(page, read_figures(host_matrix.RESULT)["hosts"]) == page
