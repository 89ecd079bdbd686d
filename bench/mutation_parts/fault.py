"""A small fault in the code: how it is planted, and which tests must see it."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Fault:
    """`old` stands once in the file and becomes `new`.

    what: the fault in words. tests: files or folders that look for it, where not those of the
    file (`places_of`). harmless: why no test can see it; such a fault does not count.
    """

    what: str
    old: str
    new: str
    tests: tuple[str, ...] = ()
    harmless: str = ""


# Tests lie in the same folders as the code; these files and folders have theirs elsewhere.
_NODES = "tests/nodes"
ELSEWHERE = {
    "tverase_core/finetuning": ("tests/core/finetune",),
    "tverase_core/storage": ("tests/core/files",),
    "tverase_core/ports.py": ("tests/core/test_context.py", "tests/core/test_concept_set.py"),
    "nodes/host/model/exact.py": (f"{_NODES}/vector/test_exact.py",),
    "nodes/host/model/extraction.py": (f"{_NODES}/vector/test_extract.py",),
    "nodes/host/model/export.py": (f"{_NODES}/vector/test_save.py",),
    "nodes/host/model/denoiser.py": (f"{_NODES}/finetune/test_finetune.py",),
    "nodes/host/model": (f"{_NODES}/vector/test_apply.py",),
    "nodes/host/network": (f"{_NODES}/flow/test_families.py",),
    "nodes/host/text/edits.py": (f"{_NODES}/baselines/test_few_shot.py",),
    "nodes/host/text": (f"{_NODES}/inversion",),
    "nodes/host/drawing/layer_inputs.py": (f"{_NODES}/baselines/test_prune.py",),
    "nodes/host/drawing": (f"{_NODES}/drawing", f"{_NODES}/strength"),
    "nodes/host/training": (f"{_NODES}/finetune/test_memory.py",),
    "nodes/finetune": (f"{_NODES}/finetune/test_memory.py",),
    "nodes/host/app": (f"{_NODES}/vector/test_files.py",),
}


class StaleFaultError(ValueError):
    """The code has changed, and the table of faults has to follow it."""


def planted(text: str, fault: Fault, name: str) -> str:
    """The file's text with the fault in it. Raises StaleFaultError unless `old` stands there
    exactly once and what comes of it is another text and valid Python."""
    if text.count(fault.old) != 1 or fault.old == fault.new:
        raise StaleFaultError(
            f"{name}: {fault.what}: expected this text once, found it {text.count(fault.old)} "
            f"times. Write the fault anew for the code as it is now:\n{fault.old}"
        )
    made = text.replace(fault.old, fault.new)
    try:
        ast.parse(made)
    except SyntaxError as error:
        raise StaleFaultError(f"{name}: {fault.what}: gives no valid Python: {error}") from error
    return made


def places_of(file: str, fault: Fault, root: Path) -> tuple[str, ...]:
    """The test files that look for a fault: the fault's own list, or all of the folder of the
    file's idea, in it the file of the same name first."""
    path = Path(file)
    mirrored = Path("tests") / path.parent.as_posix().replace("tverase_core", "core")
    own = f"test_{path.name}"
    usual = mirrored / own if path.parent.as_posix() == "tverase_core" else mirrored
    known = (ELSEWHERE.get(place.as_posix()) for place in (path, path.parent))
    places = fault.tests or next(filter(None, known), (usual.as_posix(),))
    found: list[Path] = []
    for place in places:
        inside = sorted((root / place).glob("test_*.py"), key=lambda test: (test.name != own, test))
        found += inside or [root / place]
    return tuple(test.relative_to(root).as_posix() for test in found)
