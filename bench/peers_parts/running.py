"""Each contender in a process of its own, one after the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from devtools.install import SetupError

JOB = Path(__file__).with_name("job.py")
# glibc's allocator keeps what is freed. By default it gives activations back to the kernel and asks
# for them anew at each layer, unless something large was freed before: that made one and the same
# drawing take 6.7 s or 9.5 (1.9 million page faults), by what the process had done earlier.
KEEP = {
    "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
    "MALLOC_TOP_PAD_": str(1 << 30),
}


@dataclass(frozen=True)
class Runner:
    """python: of the peers' environment, None where no peer will run; the rest is for job.py."""

    python: Path | None
    comfyui: Path
    material: Path
    size: str
    threads: int
    timed: int

    def run(
        self, name: str, threads: int = 0, memory: Mapping[str, str] = MappingProxyType({})
    ) -> Any:
        """The report of a contender, by its name in job.py; what follows a "/" tells one of its
        processes from the next. threads: 0 for the runner's own. memory: what its allocator is
        told.

        Raises SetupError when it fails, with what it said last.
        """
        python = self.python if name.startswith("by_diffusers.") else Path(sys.executable)
        threads = threads or self.threads
        with tempfile.TemporaryDirectory(dir=self.material) as work:
            job = name.partition("/")[0]
            words = [str(python), str(JOB), job, "--size", self.size, "--work", work]
            words += ["--threads", str(threads), "--timed", str(self.timed)]
            words += ["--material", str(self.material), "--comfyui", str(self.comfyui)]
            own = {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", **memory}
            done = subprocess.run(
                words,
                env={**os.environ, **own},
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode:
            last = "\n".join(done.stderr.strip().splitlines()[-8:])
            raise SetupError(f"{name} ended with {done.returncode}; it said last:\n{last}")
        return json.loads(done.stdout.strip().splitlines()[-1])
