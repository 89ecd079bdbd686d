"""A real browser on the real frontend; browser_driver.cjs does the clicking."""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

from devtools import in_process
from host_support.places import ROOT

SCRIPT = Path(__file__).with_name("browser_driver.cjs")
NODE_MODULES = ROOT / ".host" / "browser" / "node_modules"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FIRST = (0, 3, 75)  # the clicks follow that version's frontend
PATIENCE_S = 200.0  # more than the driver's own; a busy computer is slow to serve the frontend


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
    if host_version() < FIRST:
        return f"written for the frontend of ComfyUI {'.'.join(map(str, FIRST))} and newer"
    return None


def host_version() -> tuple[int, ...]:
    """The version of the ComfyUI under test; () before it had one."""
    file = in_process.host_tree() / "comfyui_version.py"
    said = (
        re.search(r'__version__ = "([\d.]+)"', file.read_text("utf-8")) if file.exists() else None
    )
    return tuple(map(int, said[1].split("."))) if said else ()


class BrowserFailed(RuntimeError):
    """The driver could not do what it was asked."""


class Browser:
    """One page of the frontend, open until the context ends; `ask` speaks to the driver."""

    def __init__(self, url: str, profile: Path, size: tuple[int, int]):
        self.job = {
            "url": url,
            "chromium": chromium(),
            "profile": str(profile),
            "width": size[0],
            "height": size[1],
        }
        self.errors: list[str] = []  # the console's, of the last request
        self.elements = False  # whether nodes are elements of the page (Nodes 2.0)
        self.answers: queue.Queue[str] = queue.Queue()

    def __enter__(self) -> Browser:
        self.process = subprocess.Popen(
            ["node", str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, "NODE_PATH": str(NODE_MODULES)},
        )
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            self._exchange(self.job, 2 * PATIENCE_S)
        except BrowserFailed:
            self.process.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()  # the driver ends at the end of its input
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def ask(self, command: str, *, within_s: float = PATIENCE_S, **words: Any) -> dict[str, Any]:
        """The driver's answer. Raises BrowserFailed."""
        return self._exchange({"command": command, **words}, within_s)

    def run(self, timeout_s: float, cancel_at: int | None = None) -> dict[str, Any]:
        """Presses Run; how it ended. Presses Cancel at the first step of the node `cancel_at`."""
        words = {"timeout": timeout_s * 1000, "cancel_at": cancel_at}
        return dict(self.ask("run", within_s=timeout_s + PATIENCE_S, **words)["run"])

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.answers.put(line)
        self.answers.put(json.dumps({"failed": "the driver has ended; see its stderr"}))

    def _exchange(self, request: dict[str, Any], within_s: float) -> dict[str, Any]:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            answer = dict(json.loads(self.answers.get(timeout=within_s)))
        except BrokenPipeError as error:
            raise BrowserFailed("the driver has ended; see its stderr") from error
        except queue.Empty:
            said = f"no answer to {request.get('command', 'the start')} in {within_s:.0f} s"
            raise BrowserFailed(said) from None
        if "failed" in answer:
            raise BrowserFailed(answer["failed"])
        self.errors = answer.get("errors", [])
        return answer
