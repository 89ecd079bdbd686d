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
    "tverase_core/storage": ("tests/core/files",),
    "tverase_core/ports.py": ("tests/core/test_context.py",),
    "nodes/host/model/exact.py": (f"{_NODES}/vector/test_exact.py",),
    "nodes/host/model/extraction.py": (f"{_NODES}/vector/test_extract.py",),
    "nodes/host/model/export.py": (f"{_NODES}/vector/test_save.py",),
    "nodes/host/model/denoiser.py": (
        f"{_NODES}/finetune/test_finetune.py",
        f"{_NODES}/finetune/test_half_precision.py",
        f"{_NODES}/test_refusals.py",
    ),
    "nodes/host/model": (f"{_NODES}/vector/test_apply.py",),
    "nodes/host/text/edits.py": (f"{_NODES}/baselines/test_few_shot.py",),
    "nodes/host/text": (f"{_NODES}/inversion/test_inversion.py",),
    "nodes/host/drawing/layer_inputs.py": (f"{_NODES}/baselines/test_prune.py",),
    "nodes/host/drawing": (f"{_NODES}/strength", f"{_NODES}/baselines/test_prune.py"),
    "nodes/host/training": (f"{_NODES}/finetune",),
    "nodes/host/app": (f"{_NODES}/vector/test_files.py",),
    "nodes/finetune": (
        f"{_NODES}/finetune/test_finetune.py",
        f"{_NODES}/finetune/test_memory.py",
    ),
}


class StaleFaultError(ValueError):
    """The code has changed, and the table of faults has to follow it."""


def planted(text: str, fault: Fault, name: str) -> str:
    """The file's text with the fault in it. Raises StaleFaultError unless it is valid Python and
    `old` stands there exactly once."""
    if text.count(fault.old) != 1:
        raise StaleFaultError(
            f"{name}: {fault.what}: expected this text once, found it {text.count(fault.old)} "
            f"times. Write the fault anew for the code as it is now:\n{fault.old}"
        )
    made = text.replace(fault.old, fault.new)
    try:
        same = ast.dump(ast.parse(made)) == ast.dump(ast.parse(text))
    except SyntaxError as error:
        raise StaleFaultError(f"{name}: {fault.what}: gives no valid Python: {error}") from error
    if same:
        raise StaleFaultError(f"{name}: {fault.what}: changes nothing.")
    return made


def places_of(file: str, fault: Fault, root: Path) -> tuple[str, ...]:
    """Where pytest looks for the fault: the fault's own list, or all of the folder of the file's
    idea, in it the test file of the same name first."""
    if fault.tests:
        return fault.tests
    path = Path(file)
    for place in (path, path.parent):
        if place.as_posix() in ELSEWHERE:
            return ELSEWHERE[place.as_posix()]
    folder = Path("tests") / path.parent.as_posix().replace("tverase_core", "core")
    own = f"test_{path.name}"
    if path.parent.as_posix() == "tverase_core":
        return ((folder / own).as_posix(),)
    found = sorted((root / folder).glob("test_*.py"), key=lambda test: (test.name != own, test))
    return tuple(test.relative_to(root).as_posix() for test in found)
