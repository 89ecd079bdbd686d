"""A cancelled node says so: its last text would stay there, as if it still ran."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any


def told_when_cancelled(run: Callable[..., Any]) -> Callable[..., Any]:
    """`run`, a node's function. Cancel may be heard anywhere in it: ComfyUI's layers listen too."""

    @wraps(run)
    def told(*given: Any, **named: Any) -> Any:
        from ..host.app.progress import tell_cancelled

        with tell_cancelled():
            return run(*given, **named)

    return told
