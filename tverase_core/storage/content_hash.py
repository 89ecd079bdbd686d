"""Hashes of a file's data section: the standard one, and one that all cores compute together.

A sha256 is a chain, which one core follows at about 1.4 GB/s: for a whole vector of SDXL, 5 to
10 GB, longer than all other loading. So a file also states the sha256 of the sha256 digests of its
pieces, and that is what loading checks (docs/decisions/0017-a-hash-for-every-core.md).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import NamedTuple, TypeVar

from torch import Tensor

from ..tensors import tensor_bytes

Own = TypeVar("Own", bound="PieceHash")
PIECE = 1 << 21  # values of a piece: part of the file format, see docs/file-format.md


class ContentHash(NamedTuple):
    """whole: sha256 of the data section. pieces: see `PieceHash`. Both in hex."""

    whole: str
    pieces: str


UNKNOWN = ContentHash("0" * 64, "0" * 64)  # of a hash's length, until it is known


def pieces(numel: int) -> Iterable[tuple[int, int]]:
    """(first element, number of elements) of consecutive pieces; none of an empty tensor."""
    return ((first, min(PIECE, numel - first)) for first in range(0, numel, PIECE))


class PieceHash:
    """sha256 over the sha256 digests of all pieces, in the order of the data.

    A piece is the raw bytes of at most PIECE consecutive values of one tensor. Give whole tensors,
    or the pieces of each in turn. Use it as a context; its threads end there.
    """

    def __init__(self) -> None:
        threads = min(8, os.cpu_count() or 1)
        self._most_waiting = 2 * threads  # a streaming caller must not fill the memory
        self._pool = ThreadPoolExecutor(threads, "content-hash")
        self._digests: list[Future[bytes]] = []

    def add(self, tensor: Tensor) -> None:
        """The next tensor, contiguous, on the CPU; nobody may write to it before `hexdigest`."""
        flat = tensor.detach().reshape(-1)
        for first, count in pieces(len(flat)):
            if len(self._digests) >= self._most_waiting:
                self._digests[-self._most_waiting].result()
            self._digests.append(self._pool.submit(_sha256, flat[first : first + count]))

    def hexdigest(self) -> str:
        """The hash of what was added so far."""
        return hashlib.sha256(b"".join(digest.result() for digest in self._digests)).hexdigest()

    def __enter__(self: Own) -> Own:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)


class RunningHash(PieceHash):
    """Both hashes of what is written, see `ContentHash`."""

    def __init__(self) -> None:
        super().__init__()
        self._whole = hashlib.sha256()

    def add(self, tensor: Tensor) -> None:
        super().add(tensor)
        self._whole.update(tensor_bytes(tensor))

    def content(self) -> ContentHash:
        return ContentHash(self._whole.hexdigest(), self.hexdigest())


def _sha256(piece: Tensor) -> bytes:
    return hashlib.sha256(tensor_bytes(piece)).digest()
