"""A real browser on the real frontend; tests/browser/run_workflow.cjs does the clicking."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "browser" / "run_workflow.cjs"
NODE_MODULES = ROOT / ".host" / "browser" / "node_modules"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium() -> str | None:
    """The browser's place: TVERASE_CHROMIUM, or the first one on the path."""
    own = os.environ.get("TVERASE_CHROMIUM")
    return own or next(filter(None, map(shutil.which, NAMES)), None)


def lacking() -> str | None:
    """What the browser tests miss on this computer; None when all is there."""
    if chromium() is None:
        return f"no browser on the path ({', '.join(NAMES)}); TVERASE_CHROMIUM can name one"
    if shutil.which("node") is None:
        return "no node (Node.js) on the path"
    if not (NODE_MODULES / "playwright-core").is_dir():
        return "no playwright-core: npm install --prefix .host/browser playwright-core@1.64.1"
    return None


def run_workflow(
    url: str,
    workflow: Mapping[str, Any],
    changes: Mapping[str, Mapping[str, Any]],
    folder: Path,
    timeout_s: float = 300.0,
) -> dict[str, Any]:
    """Load `workflow`, set widgets by node id, queue, wait; before.png and after.png in `folder`.

    Returns `missing` node types, `nodes` as laid out, `api` (what the canvas would queue before
    the changes), `run` (the ending event) and the console's `errors`.
    """
    job = {
        "url": url,
        "workflow": workflow,
        "changes": changes,
        "chromium": chromium(),
        "profile": str(folder / "profile"),
        "before": str(folder / "before.png"),
        "after": str(folder / "after.png"),
        "width": 2880,
        "height": 1500,
        "timeout": timeout_s * 1000,
    }
    done = subprocess.run(
        ["node", SCRIPT],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        timeout=timeout_s + 180,
        env={**os.environ, "NODE_PATH": str(NODE_MODULES)},
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the browser script failed:\n{done.stderr}")
    return dict(json.loads(done.stdout))
