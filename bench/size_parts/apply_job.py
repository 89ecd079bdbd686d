"""One process of the apply measurement: load a vector's file and apply it to an SDXL-sized MODEL.

    python bench/size_parts/apply_job.py ours|stock COMFYUI FILE

Prints JSON: seconds from the file to patched weights, seconds to change alpha, bytes read
from files while alpha changed, and the peak of memory above the process with its model, in MB.
With `make` in place of ours|stock the file is written.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))

import torch

from bench.size_parts.big_model import build, deltas
from devtools.in_process import import_host, load_pack

SHARE = 0.01


def main() -> int:
    mode, comfyui, file = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    host = import_host(comfyui)
    load_pack()
    model = build("sdxl", torch.float16, torch.float16)
    if mode == "make":
        make(model, file)
        return 0
    step = ours(model, file) if mode == "ours" else stock(host, model, file)
    with Watch() as watch:
        first = seconds(lambda: step(0.5))
        before = bytes_read()
        second = seconds(lambda: step(1.0))
        read = bytes_read() - before
    report = {"first_s": first, "change_s": second, "read": read, "peak_mb": watch.peak_mb}
    print(json.dumps(report))
    return 0


def make(model: Any, file: Path) -> None:
    """Cross-attention alone: a whole vector of SDXL and its patches would not fit this machine."""
    from tverase_pack.nodes.host.model.weights import fingerprint, layout_of, model_shapes
    from tverase_pack.tverase_core.files.task_vector_file import save_task_vector
    from tverase_pack.tverase_core.vector.task_vector import TaskVector

    layout = layout_of(model)
    wanted = {k: s for k, s in model_shapes(model).items() if layout.kind(k) == "cross_attn"}
    narrow = {key: delta.bfloat16() for key, delta in deltas(wanted, SHARE).items()}
    save_task_vector(file, TaskVector(narrow, fingerprint(model)), dtype="bfloat16")


def ours(model: Any, file: Path) -> Callable[[float], None]:
    """Load Task Vector, Apply Negated TV, and the host's loading of the result."""
    from tverase_pack.nodes.vector.apply import ApplyNegatedTV
    from tverase_pack.tverase_core.files.task_vector_file import load_task_vector

    held: list[Any] = []

    def step(alpha: float) -> None:
        if not held:
            held.append(load_task_vector(file, mapped=True))
        with torch.inference_mode():
            made = ApplyNegatedTV().apply(model, held[0], alpha, "refuse")
            load(made["result"][0] if isinstance(made, dict) else made[0])

    return step


def stock(host: Any, model: Any, file: Path) -> Callable[[float], None]:
    """The host's Load LoRA (model only) at a negative strength."""
    host.folder_paths.add_model_folder_path("loras", str(file.parent))
    loader = host.nodes.LoraLoaderModelOnly()

    def step(alpha: float) -> None:
        with torch.inference_mode():
            load(loader.load_lora_model_only(model, file.name, -alpha)[0])

    return step


def load(model: Any) -> None:
    import comfy.model_management

    comfy.model_management.load_models_gpu([model], force_full_load=True)


def seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def bytes_read() -> int:
    """Bytes this process has asked the system for (Linux)."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


class Watch:
    """The peak of resident memory, above that at the start, looked at every 5 ms (Linux)."""

    def __init__(self) -> None:
        self.peak_mb, self._done = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._done.wait(0.005):
            self.peak_mb = max(self.peak_mb, self._now() - self._start)

    def _now(self) -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

    def __enter__(self) -> Watch:
        self._start = self._now()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


if __name__ == "__main__":
    sys.exit(main())
