"""Talks to a running ComfyUI over HTTP and its websocket, as the browser does."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
import websocket

from .messages import Message, decoded

ANSWER_S = 60  # for one request; a server that computes answers late
LISTEN_S = 1.0  # the longest wait for a message before the watcher hears that there was none
LOOK_EVERY_S = 5.0  # without messages: ask for the result, should its message have been lost

Watch = Callable[[Message | None], None]


class PromptFailed(Exception):
    """The server refused a prompt or a node raised; the text holds the node's own words."""


class ServerGone(Exception):
    """The server does not answer any more."""


class Client:
    """One server; `base` is its base folder (`base/output`, `base/models/loras`, ...)."""

    def __init__(self, url: str, base: Path):
        self.url, self.base = url, base
        self.client_id = uuid.uuid4().hex
        self._http = requests.Session()
        self._http.trust_env = False  # never a proxy: the server is on this computer

    def _ask(self, method: str, path: str, **words: Any) -> requests.Response:
        try:
            return self._http.request(method, self.url + path, timeout=ANSWER_S, **words)
        except requests.ConnectionError as problem:
            raise ServerGone(f"ComfyUI at {self.url} does not answer") from problem

    def get(self, path: str) -> Any:
        """GET, JSON decoded."""
        answer = self._ask("GET", path)
        answer.raise_for_status()
        return answer.json()

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """POST JSON; the JSON answer or None."""
        answer = self._ask("POST", path, json=body or {})
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def object_info(self) -> dict[str, Any]:
        """All node types the server knows."""
        return dict(self.get("/object_info"))

    def submit(self, prompt: Mapping[str, Any]) -> str:
        """Queue an API-format graph; its id. Raises PromptFailed when validation refuses it."""
        body = {"prompt": prompt, "client_id": self.client_id}
        answer = self._ask("POST", "/prompt", json=body)
        if not answer.ok:
            raise PromptFailed(answer.text)
        return str(answer.json()["prompt_id"])

    def wait(
        self, prompt_id: str, watch: Watch | None = None, stalled_s: float | None = 300.0
    ) -> dict[str, Any]:
        """The finished run's history entry. A run may take any time as long as it moves.

        watch: hears every message, and None about once a second without one. stalled_s: raise
        TimeoutError when nothing has moved for so long; None waits on.
        """
        with self._listening() as listen:
            return self._followed(listen, prompt_id, watch, stalled_s)

    def run(
        self,
        prompt: Mapping[str, Any],
        watch: Watch | None = None,
        stalled_s: float | None = 300.0,
    ) -> dict[str, Any]:
        """Queue a graph and wait as `wait` does; outputs by node id.

        Raises PromptFailed with the node's error, ServerGone when the server ends.
        """
        with self._listening() as listen:  # before the first message
            entry = self._followed(listen, self.submit(prompt), watch, stalled_s)
        return outputs_of(entry)

    @contextmanager
    def _listening(self) -> Iterator[Callable[[], Message | None]]:
        """A function that gives the next message, or None when none comes for a second."""
        address = f"ws{self.url.removeprefix('http')}/ws?clientId={self.client_id}"
        try:
            socket = websocket.create_connection(address, timeout=ANSWER_S, http_no_proxy=["*"])
        except (OSError, websocket.WebSocketException) as problem:
            raise ServerGone(f"ComfyUI at {self.url} does not answer") from problem
        socket.settimeout(LISTEN_S)

        def listen() -> Message | None:
            try:
                return decoded(socket.recv())
            except websocket.WebSocketTimeoutException:
                return None
            except (OSError, websocket.WebSocketException) as problem:
                raise ServerGone(f"ComfyUI at {self.url} ended its connection") from problem

        try:
            yield listen
        finally:
            socket.close(timeout=0)

    def _followed(
        self,
        listen: Callable[[], Message | None],
        prompt_id: str,
        watch: Watch | None,
        stalled_s: float | None,
    ) -> dict[str, Any]:
        moved = looked = time.monotonic()
        entry = self._entry(prompt_id)  # it may have ended before anybody listened
        while entry is None:
            message = listen()
            if watch:
                watch(message)
            now = time.monotonic()
            if message is not None and message.is_work:
                moved = looked = now
            if message is not None and message.ends(prompt_id):
                while (entry := self._entry(prompt_id)) is None:
                    time.sleep(0.05)  # the history is filled a moment later
            elif now - looked > LOOK_EVERY_S:
                entry, looked = self._entry(prompt_id), now
            if entry is None and stalled_s is not None and now - moved > stalled_s:
                raise TimeoutError(f"prompt {prompt_id}: nothing has moved for {stalled_s:.0f} s")
        return entry

    def _entry(self, prompt_id: str) -> dict[str, Any] | None:
        """The history entry of a finished prompt; None while it runs or nobody has time to say."""
        try:
            entry = self.get(f"/history/{prompt_id}").get(prompt_id)
        except requests.Timeout:
            return None
        return dict(entry) if entry and entry.get("status", {}).get("status_str") else None

    def interrupt(self) -> None:
        """What the Cancel button does."""
        self.post("/interrupt")

    def view(self, image: Mapping[str, str]) -> bytes:
        """The bytes of an image, or another file, that a node reported."""
        answer = self._ask("GET", "/view", params=dict(image))
        answer.raise_for_status()
        return answer.content

    def upload(self, name: str, content: bytes) -> str:
        """Upload a picture as Load Image does; the name to use in Load Image."""
        answer = self._ask("POST", "/upload/image", files={"image": (name, content)})
        answer.raise_for_status()
        return str(answer.json()["name"])


def outputs_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs in a history entry by node id. Raises PromptFailed with the node's error."""
    if entry["status"]["status_str"] == "success":
        return dict(entry["outputs"])
    messages = entry["status"].get("messages", [])
    for kind, data in reversed(messages):
        if kind == "execution_error":
            raise PromptFailed(
                f"{data['node_type']}: {data['exception_type']}: {data['exception_message']}"
            )
    raise PromptFailed(str([kind for kind, _ in messages]))
