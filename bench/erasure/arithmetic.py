"""What is compared is learned in float32 on every processor, so that results of one do for all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def in_float32() -> Iterator[None]:
    """Also where the pack's nodes would draw concept pictures and fine-tune in bfloat16
    (docs/decisions/0023). A decorator too."""
    from tverase_pack.nodes.host.model import numerics

    known = numerics.has_fast_bfloat16
    numerics.has_fast_bfloat16 = lambda device: False
    try:
        yield
    finally:
        numerics.has_fast_bfloat16 = known
