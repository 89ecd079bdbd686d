"""Edits of a checkpoint on disk; test_command_line.py has what they do to the file."""

from __future__ import annotations

from bench.weight_reads import weight_reads_per_edit


def test_each_edited_weight_is_read_once() -> None:
    assert weight_reads_per_edit() == 1
