"""Importing this refuses the process every connection but to itself. Standard library only."""

from __future__ import annotations

import sys
from typing import Any

LOOPBACK = ("127.0.0.1", "::1", "localhost")
SAID = "tverase tests: this process has no network"


def _refuse(event: str, words: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto"):
        place = words[1]
        if isinstance(place, tuple) and place[0] not in LOOPBACK:
            raise PermissionError(f"no network in tests: {place[0]}")
    elif event == "socket.getaddrinfo" and words[0] not in (None, "", *LOOPBACK):
        raise PermissionError(f"no network in tests: {words[0]}")


sys.addaudithook(_refuse)
