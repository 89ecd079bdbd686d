"""The pack speaks to nobody: the server of all tests over HTTP, the demo graph's among them
(`test_user_mistakes.py`), is refused every connection but to this computer."""

from __future__ import annotations

import subprocess
import sys

import pytest

from host_support import no_network
from host_support.client import Client
from host_support.places import ROOT


def test_the_server_has_no_network(server: Client) -> None:
    assert no_network.SAID in (server.base / "server.log").read_text("utf-8", "replace")


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        ("socket.create_connection(('192.0.2.1', 9), 1)", True),
        ("socket.getaddrinfo('example.org', 80)", True),
        ("urllib.request.urlopen('http://example.org', timeout=1)", True),
        ("socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 9))", True),
        (
            "s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname())",
            False,
        ),
    ],
)
def test_connections_to_others_are_refused(words: str, refused: bool) -> None:
    code = f"import socket, urllib.request; from host_support import no_network; {words}"
    folders = [str(ROOT), str(ROOT / "tests")]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path += {folders!r}; {code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode != 0) == refused, done.stderr
    assert ("no network in tests" in done.stderr) == refused
