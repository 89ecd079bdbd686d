"""MODELs that share weights do not disturb one another, in any order."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.injections
def test_random_graphs(pack: Any, comfy_host: Any) -> None:
    from bench.fault_parts import orders

    made = orders.run(pack, 12, 5)
    assert not made.wrong
    assert made.drawn > 50


@pytest.mark.injections
def test_a_disturbance_would_be_seen(
    pack: Any, comfy_host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Edits that write into the shared MODEL."""
    from bench.fault_parts import orders

    plain = orders.edited

    def spoiling(pack: Any, model: Any, edit: Any) -> Any:
        made = plain(pack, model, edit)
        if edit[0] == "LoRA":
            model.patches = made.patches
            model.patches_uuid = made.patches_uuid
        return made

    for number in range(3):
        orders.alone.cache_clear()
        for name, strength, how in orders.EDITS:  # known before anything is spoilt
            orders.alone(pack, ((name, strength, how),), False)
        orders.alone(pack, (), False)
        monkeypatch.setattr(orders, "edited", spoiling)
        wrong = orders.run(pack, 4, number).wrong
        monkeypatch.setattr(orders, "edited", plain)
        if wrong:
            break
    orders.alone.cache_clear()
    assert wrong
