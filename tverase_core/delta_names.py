"""How a weight's delta is called in a file: ComfyUI's generic full-difference names.

`<module>.weight` is stored as `<module>.diff`, `<module>.bias` as `<module>.diff_b`, and any
other parameter as `<its whole name>.diff`.
"""

from __future__ import annotations

WEIGHT, BIAS = ".weight", ".bias"
DIFF, DIFF_BIAS = ".diff", ".diff_b"


def is_bare(key: str) -> bool:
    """Is it a parameter called neither weight nor bias? A file lists these by name."""
    return not key.endswith((WEIGHT, BIAS))


def file_name_of(key: str) -> str:
    """Weight key -> tensor name in the file."""
    if key.endswith(WEIGHT):
        return key.removesuffix(WEIGHT) + DIFF
    if key.endswith(BIAS):
        return key.removesuffix(BIAS) + DIFF_BIAS
    return key + DIFF


def weight_key_of(name: str, bare: frozenset[str] = frozenset()) -> str | None:
    """Tensor name in a file -> weight key; None for a name that is no delta's.

    bare: the weight keys for which `is_bare` holds; a name alone cannot tell them.
    """
    if name.endswith(DIFF_BIAS):
        return name.removesuffix(DIFF_BIAS) + BIAS
    if not name.endswith(DIFF):
        return None
    stem = name.removesuffix(DIFF)
    return stem if stem in bare else stem + WEIGHT
