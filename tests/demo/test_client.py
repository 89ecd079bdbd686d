"""The client on a real server: what it hears, and how it ends when the server does."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from devtools.client import ServerGone
from devtools.messages import Message
from host_support.client import Client

EMPTY = {
    "1": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
    "2": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "tiny.safetensors"}},
    "3": {"class_type": "VAEDecode", "inputs": {"samples": ["1", 0], "vae": ["2", 2]}},
    "4": {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}},
}


def test_a_watcher_hears_the_nodes_and_their_outputs(server: Client) -> None:
    heard: list[Message | None] = []
    outputs = server.run(EMPTY, heard.append)
    messages = [message for message in heard if message is not None]
    entered = [m.data["node"] for m in messages if m.kind == "executing"]
    assert entered[-2:] == ["4", None]
    (shown,) = (m.data["output"] for m in messages if m.kind == "executed")
    assert shown == outputs["4"]


def test_a_run_that_ended_before_anybody_waited_is_found(server: Client) -> None:
    began = server.submit(EMPTY)
    server.wait(began)
    assert server.wait(began)["status"]["status_str"] == "success"


def test_a_server_that_is_not_there_is_said_to_be_gone(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    for ask in (Client(url, tmp_path).object_info, lambda: Client(url, tmp_path).run({})):
        with pytest.raises(ServerGone, match="does not answer"):
            ask()


class Fake(Client):
    """A server that never says anything about the prompt."""

    def __init__(self, **history: Any):
        super().__init__("http://127.0.0.1:9", Path())
        self.history = history

    def get(self, path: str) -> Any:
        return self.history

    def submit(self, prompt: Any) -> str:
        return "p"


def test_only_a_run_in_which_nothing_moves_times_out() -> None:
    client, moves = Fake(), iter([Message("progress", {"node": "1"})] * 3)
    with pytest.raises(TimeoutError, match="nothing has moved"):
        client._followed(lambda: next(moves, None), "p", None, 0.05)
    assert next(moves, None) is None


def test_a_lost_last_message_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devtools.client.LOOK_EVERY_S", 0.0)
    client = Fake()
    entry = {"status": {"status_str": "success"}, "outputs": {}}
    timer = threading.Timer(0.05, lambda: client.history.update(p=entry))
    timer.start()
    assert client._followed(lambda: None, "p", None, None) == entry
