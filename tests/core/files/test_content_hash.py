"""The hash that all cores compute together, against values worked out by hand."""

from __future__ import annotations

import hashlib
import threading

import pytest
import torch

from tverase_core.storage import content_hash
from tverase_core.storage.content_hash import ContentHash, PieceHash, RunningHash, pieces


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def test_known_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two values a piece; a piece never spans two tensors, and an empty tensor has none."""
    monkeypatch.setattr(content_hash, "PIECE", 2)
    first, second = torch.tensor([1, 2, 3], dtype=torch.uint8), torch.tensor([[4, 5]])
    parts = [b"\x01\x02", b"\x03", second.numpy().tobytes()]
    with RunningHash() as running:
        for tensor in (first, torch.empty(0), second):
            running.add(tensor)
        found = running.content()
    expected = hashlib.sha256(b"".join(map(sha256, parts))).hexdigest()
    assert found == ContentHash(hashlib.sha256(b"".join(parts)).hexdigest(), expected)


def test_pieces_of_a_tensor_count_like_the_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_hash, "PIECE", 64)
    whole = torch.arange(1000.0).bfloat16()
    with PieceHash() as one, PieceHash() as another:
        one.add(whole.view(10, 100))
        for first, count in pieces(len(whole)):
            another.add(whole[first : first + count])
        assert one.hexdigest() == another.hexdigest()


def test_every_bit_and_the_order_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_hash, "PIECE", 4)
    tensor = torch.arange(16, dtype=torch.uint8)
    changed = [tensor ^ (torch.arange(16) == i).to(torch.uint8) for i in range(16)]
    found = set()
    for each in (tensor, tensor.flip(0), *changed):
        with PieceHash() as running:
            running.add(each)
            found.add(running.hexdigest())
    assert len(found) == 18


def test_an_error_leaves_no_thread_behind() -> None:
    def failing() -> None:
        with PieceHash() as running:
            running.add(torch.zeros(100))
            raise KeyError

    before = threading.active_count()
    with pytest.raises(KeyError):
        failing()
    assert threading.active_count() == before
