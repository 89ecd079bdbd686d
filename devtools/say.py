"""Lines of `dev.py`, and a sign of life while something works that says nothing itself."""

from __future__ import annotations

import threading
import time
from types import TracebackType

SILENT_S = 6.0


def say(message: str) -> None:
    """One line of progress."""
    print(f"[dev.py] {message}", flush=True)


class Heartbeat:
    """Says every few seconds of silence what is being waited for, and for how long."""

    def __init__(self, label: str, silent_s: float = SILENT_S):
        self.label, self.silent_s = label, silent_s
        self._began = self._heard = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def heard(self) -> None:
        """Something else was printed."""
        self._heard = time.monotonic()

    def _beat(self) -> None:
        while not self._over.wait(max(0.05, self._heard + self.silent_s - time.monotonic())):
            now = time.monotonic()
            if now - self._heard >= self.silent_s:
                say(f"{self.label}: {now - self._began:.0f} s")
                self._heard = now

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
