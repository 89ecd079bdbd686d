"""How a weight's delta is called in a file: ComfyUI's generic full-difference names.

`<module>.weight` is stored as `<module>.diff`, `<module>.bias` as `<module>.diff_b`, and any
other parameter as `<its whole name>.diff`.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import FormatError
from ..model.layout import DIFFUSION_PREFIX, TEXT_PREFIX

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


def file_names_of(keys: Iterable[str]) -> dict[str, str]:
    """`file_name_of` every weight of one file, by key.

    Raises FormatError for a key of neither kind of model, and for two keys of one name.
    """
    names: dict[str, str] = {}
    holders: dict[str, str] = {}
    for key in keys:
        if not key.startswith((DIFFUSION_PREFIX, TEXT_PREFIX)):
            raise FormatError(
                f"{key}: expected a name that starts with {DIFFUSION_PREFIX} or {TEXT_PREFIX}. "
                "Give the weights their names in ComfyUI."
            )
        name = names[key] = file_name_of(key)
        first = holders.setdefault(name, key)
        if first != key:
            raise FormatError(
                f"{first} and {key}: two weights would both be called {name} in the file, which "
                "can hold one. Save them in two files."
            )
    return names


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
