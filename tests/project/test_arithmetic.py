"""Benches that compare methods learn in float32 on every processor."""

from __future__ import annotations

from typing import Any

import pytest
import torch


def test_within_no_cpu_counts_as_fast_and_after_it_does_again(
    pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tverase_pack.nodes.host.model import numerics

    from bench.erasure.arithmetic import in_float32

    monkeypatch.setattr(numerics, "has_fast_bfloat16", lambda device: True)
    cpu = torch.device("cpu")

    @in_float32()
    def learn() -> bool:
        return bool(numerics.has_fast_bfloat16(cpu))

    assert not learn()
    assert numerics.has_fast_bfloat16(cpu)
    with pytest.raises(InterruptedError), in_float32():
        raise InterruptedError
    assert numerics.has_fast_bfloat16(cpu)
