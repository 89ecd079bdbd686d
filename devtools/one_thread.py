"""Jobs of a bench run side by side, each a process of one thread: more than threads would gain."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run_in_one_thread(script: Path, *words: object, check: bool = True) -> int:
    """The script's exit status. Raises CalledProcessError where it is not 0, unless told not to."""
    return subprocess.run(
        [sys.executable, str(script), *map(str, words)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=check,
    ).returncode
