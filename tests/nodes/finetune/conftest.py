"""Both ways in which a layer comes by an edited weight."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(params=[True, False], ids=["at hand", "through the host"])
def at_hand(request: pytest.FixtureRequest, pack: Any, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether stored weights serve as they lie there, as on a CPU, or not, as on a GPU."""
    from tverase_pack.nodes.host.model import slots

    if not request.param:
        monkeypatch.setattr(slots, "_is_at_hand", lambda *_: False)
    return bool(request.param)
