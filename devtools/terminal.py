"""Stages of long work in the terminal: a bar that moves, or plain lines where nobody watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import IO

from tqdm import tqdm

LINE_EVERY_S = 5.0  # a plain line while there is news
SILENT_S = 6.0  # a plain line without
BAR = "{desc} |{bar:20}| {percentage:3.0f}%{postfix}"


class Terminal:
    """One stage at a time: `begin`, then `move` and `tick` in any order, then `end`.

    bars: whether the output is a terminal, where the last line may be drawn over.
    """

    def __init__(
        self,
        output: IO[str] | None = None,
        bars: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.output = output or sys.stdout
        self.bars = self.output.isatty() if bars is None else bars
        self.clock = clock
        self.longest_silence = 0.0
        self.seconds: dict[str, float] = {}  # by stage
        self._spoke = clock()
        self._bar: tqdm | None = None
        self._label, self._words = "", ""
        self._done, self._total = 0.0, 0.0
        self._began = self._phase_began = 0.0
        self._phase_from = 0.0

    def line(self, text: str) -> None:
        """A line that stays, above the bar."""
        tqdm.write(text, file=self.output)
        self._flushed()

    def begin(self, label: str) -> None:
        """Name the stage that starts now."""
        self._label, self._words, self._done, self._total = label, "", 0.0, 0.0
        self._began = self._phase_began = self.clock()
        self._phase_from = 0.0
        if self.bars:
            self._bar = tqdm(
                total=1,
                desc=f"  {label}",
                bar_format=BAR,
                leave=False,
                file=self.output,
                dynamic_ncols=True,
            )
            self._flushed()
        else:
            self.line(f"  {label} ...")

    def move(self, done: float, total: float, words: str = "") -> None:
        """How far the stage is, in its own unit. words: what is told of it; none: as before."""
        if done < self._done or total != self._total:
            self._phase_began, self._phase_from = self.clock(), done
        self._done, self._total, self._words = done, total, words or self._words
        if self._bar is not None:
            self._draw(self._bar)
        elif self.clock() - self._spoke >= LINE_EVERY_S:
            self.line(f"  {self._label}: {self._news()}")

    def tick(self) -> None:
        """Nothing new; called about once a second, so that the terminal does not look dead."""
        if self._bar is not None:
            self._draw(self._bar)
        elif self.clock() - self._spoke >= SILENT_S:
            self.line(f"  {self._label}: {self._news()}" if self._label else "  still at work")

    def end(self, found: str) -> None:
        """One line of what the stage found."""
        if not self._label:
            return
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self.seconds[self._label] = seconds = self.clock() - self._began
        self.line(f"  {self._label}: {found or 'done'} ({seconds:.0f} s)")
        self._label = ""

    def drop(self) -> None:
        """Leave a stage that did not end well, without a word about it."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self._label = ""

    def _draw(self, bar: tqdm) -> None:
        bar.total, bar.n = self._total or 1, min(self._done, self._total or 1)
        bar.set_postfix_str(self._news(), refresh=False)
        bar.refresh()
        self._flushed()

    def _news(self) -> str:
        now = self.clock()
        parts = [self._words] if self._words else []
        moved = self._done - self._phase_from
        if "left" not in self._words and moved > 0 and now - self._phase_began > 2:
            left = (now - self._phase_began) / moved * (self._total - self._done)
            parts.append(f"{left:.0f} s left")
        return ", ".join([*parts, f"{now - self._began:.0f} s so far"])

    def _flushed(self) -> None:
        self.output.flush()
        now = self.clock()
        self.longest_silence = max(self.longest_silence, now - self._spoke)
        self._spoke = now
