"""ComfyUI's own loader takes the pack: light, and from a folder with any name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from devtools.server import link_folder
from host_support.places import ROOT

# The packages that the host has not loaded itself when packs are imported.
HEAVY = {"matplotlib", "scipy", "pandas", "cv2", "sklearn", "diffusers", "accelerate"}


@pytest.fixture(scope="module")
def as_host(comfy_host: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What ComfyUI's loader says of the pack in a folder with spaces and letters of two scripts."""
    folder = tmp_path_factory.mktemp("custom nodes") / "Künstliche Vergesslichkeit 消去"
    link_folder(ROOT, folder)
    script = ROOT / "tests" / "host_support" / "load_as_host.py"
    done = subprocess.run(
        [sys.executable, script, comfy_host.tree, folder],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_any_folder_name_will_do(as_host: dict[str, Any], pack: Any) -> None:
    assert as_host["loaded"] is True
    assert as_host["nodes"] == sorted(pack.NODE_CLASS_MAPPINGS)


def test_nothing_heavy_is_imported(as_host: dict[str, Any]) -> None:
    """matplotlib waits until the first picture is drawn."""
    assert not HEAVY & set(as_host["modules"])


def test_what_only_a_run_needs_waits_for_it(as_host: dict[str, Any]) -> None:
    late = ("erasers.", "files.extract", "files.lora.", "report.")
    early = {name for name in as_host["core"] if name.startswith(late)}
    assert not early


def test_the_import_is_quick(as_host: dict[str, Any]) -> None:
    """Processor time, since a busy computer makes any wall clock fail; a computer on which the host
    itself takes long may take longer for the pack, in proportion."""
    assert as_host["seconds"] < max(0.3, 0.08 * as_host["host_seconds"]), as_host["host_seconds"]


def test_an_errors_name_holds_no_path(as_host: dict[str, Any]) -> None:
    """The host shows an error's module, and calls modules by the pack's folder on the disk."""
    assert "tverase_core.errors" in as_host["errors"]
    assert all(name.startswith("tverase_core.") for name in as_host["errors"])
