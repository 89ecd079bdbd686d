"""The kinds of our own files, by the names of their folders."""

from __future__ import annotations

TASK_VECTORS, INVERSION_SETS = "task_vectors", "inversion_sets"
