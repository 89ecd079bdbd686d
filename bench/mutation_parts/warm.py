"""Runs pytest again and again without importing torch and ComfyUI each time.

A process that has imported them, but nothing of this project, forks for each line of its input: a
JSON list of pytest's words. Its answer is a line too: the exit code (null when it was stopped after
LIMIT_S seconds) and what pytest said.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

LIMIT_S = 900  # a fault may make a loop endless; all tests of a folder need less


def run(words: list[str]) -> tuple[int | None, str]:
    """One pytest in a process of its own."""
    import pytest

    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        child = os.fork()
        if child == 0:
            os.setsid()
            for stream in (1, 2):
                os.dup2(said.fileno(), stream)
            code = 1
            try:
                code = int(pytest.main(words))
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)
        code = _code_of(child)
        said.seek(0)
        return code, said.read()


def _code_of(child: int) -> int | None:
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def main() -> int:
    sys.path[0] = os.getcwd()  # in place of this folder
    import torch

    torch.set_num_threads(1)
    from devtools import in_process

    in_process.import_host(Path(os.environ["COMFYUI_PATH"]))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        answers.write(json.dumps(run(json.loads(line))) + "\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
