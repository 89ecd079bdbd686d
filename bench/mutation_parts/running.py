"""A copy of the tree, in which the tests meet one fault at a time."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from . import warm
from .fault import Fault, planted

_BY = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """by: the first test that failed, or None. said: what pytest said."""

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
        env = {
            **os.environ,
            "COMFYUI_PATH": str(comfyui),
            "OMP_NUM_THREADS": "1",
            # Python takes a cached file of the same second and size for the present one.
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        env.pop("PYTHONPATH", None)
        script = Path(warm.__file__).relative_to(root)
        self._pytest = subprocess.Popen(
            [sys.executable, script],
            cwd=folder,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def close(self) -> None:
        """End the process that runs the tests."""
        self._pytest.communicate()

    def test(self, tests: tuple[str, ...]) -> Outcome:
        """Run these tests until the first one fails. Raises RuntimeError when there are none."""
        words = ["-x", "-q", "--tb=line", "-m", "not http", "-p", "no:cacheprovider", *tests]
        assert self._pytest.stdin is not None
        assert self._pytest.stdout is not None
        self._pytest.stdin.write(json.dumps(words) + "\n")
        self._pytest.stdin.flush()
        code, said = json.loads(self._pytest.stdout.readline())
        if code is None:
            return Outcome(f"no end within {warm.LIMIT_S} s", said)
        if code == 0 and re.search(r"\d+ passed", said):
            return Outcome(None, said)
        found = _BY.search(said)
        if code not in (1, 2) or found is None:
            raise RuntimeError(f"pytest {' '.join(tests)} ended with {code}:\n{said[-3000:]}")
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
