"""Which of the concepts this process takes: all, or a share under `accelerate launch`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol, TypeVar

from ...tverase_core.errors import ConfigError

Item = TypeVar("Item")
PATIENCE = timedelta(days=30)  # one process may still train when the others are done


class Processes(Protocol):
    """count processes, of which this is number index; the one with index 0 is the main one."""

    index: int
    count: int

    def share(self, items: Sequence[Item]) -> list[Item]:
        """This process's items; every process must ask with equal items."""
        ...

    def wait(self) -> None:
        """Until all processes came to this point."""
        ...


class Alone:
    """One process."""

    index, count = 0, 1

    def share(self, items: Sequence[Item]) -> list[Item]:
        return list(items)

    def wait(self) -> None:
        pass


class Launched:
    """The processes that `accelerate launch` started.

    They only wait for one another, so they speak over the network and not over the GPUs: no GPU
    memory, and no limit of ten minutes for a wait.
    """

    def __init__(self) -> None:
        try:
            from accelerate import PartialState
        except ImportError as error:
            raise ConfigError(
                "Several processes were launched, but the package accelerate is missing. Install "
                "it with `pip install accelerate`, or run without a launcher."
            ) from error
        self._state = PartialState(cpu=True, timeout=PATIENCE)
        self.index, self.count = self._state.process_index, self._state.num_processes

    def share(self, items: Sequence[Item]) -> list[Item]:
        with self._state.split_between_processes(list(items)) as mine:
            return list(mine)

    def wait(self) -> None:
        self._state.wait_for_everyone()


def launched_processes() -> Processes:
    """Raises ConfigError when accelerate is needed and missing."""
    return Launched() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else Alone()
