"""A copy of the tree, in which the tests meet one fault at a time."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .fault import Fault, planted

LIMIT_S = 300  # a fault may make a loop endless
_BY = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """by: the first test that failed, or None. said: the end of what pytest said."""

    by: str | None
    said: str


class Copy:
    """The files of a checkout, tracked or new but not ignored, in a folder of their own."""

    def __init__(self, root: Path, folder: Path, comfyui: Path):
        self.folder = folder
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in filter(None, listed.stdout.split("\0")):
            if (root / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(root / name, folder / name)
        self._env = {
            **os.environ,
            "COMFYUI_PATH": str(comfyui),
            "OMP_NUM_THREADS": "1",
            # Python takes a cached file of the same second and size for the present one.
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._env.pop("PYTHONPATH", None)

    def test(self, tests: tuple[str, ...]) -> Outcome:
        """Run these tests until the first one fails. Raises RuntimeError when there are none."""
        words = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=line", "-m", "not http"]
        words += ["-p", "no:cacheprovider", *tests]
        try:
            done = subprocess.run(
                words,
                cwd=self.folder,
                env=self._env,
                capture_output=True,
                text=True,
                check=False,
                timeout=LIMIT_S,
            )
        except subprocess.TimeoutExpired:
            return Outcome(f"no end within {LIMIT_S} s", "")
        said = done.stdout[-3000:] + done.stderr[-1000:]
        if done.returncode == 0 and re.search(r"\d+ passed", done.stdout):
            return Outcome(None, said)
        found = _BY.search(done.stdout)
        if done.returncode not in (1, 2) or found is None:
            raise RuntimeError(f"pytest {' '.join(tests)} ended with {done.returncode}:\n{said}")
        return Outcome(found[1], said)

    def test_with(self, file: str, fault: Fault, tests: tuple[str, ...]) -> Outcome:
        """The same with the fault in the file, which is as before afterwards."""
        path = self.folder / file
        text = path.read_text("utf-8")
        try:
            path.write_text(planted(text, fault, file), "utf-8")
            return self.test(tests)
        finally:
            path.write_text(text, "utf-8")
