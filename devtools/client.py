"""Talks to a running ComfyUI over HTTP, as any client does."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class PromptFailed(Exception):
    """The server refused a prompt or a node raised; the text holds the node's own words."""


class Client:
    """One server; `base` is its base folder (`base/output`, `base/models/loras`, ...)."""

    def __init__(self, url: str, base: Path):
        self.url, self.base = url, base
        self.client_id = uuid.uuid4().hex

    def get(self, path: str) -> Any:
        """GET, JSON decoded."""
        with _open(self.url + path, timeout=60) as answer:
            return json.load(answer)

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """POST JSON; the JSON answer or None."""
        request = urllib.request.Request(
            self.url + path,
            json.dumps(body or {}).encode(),
            {"Content-Type": "application/json"},
        )
        with _open(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def object_info(self) -> dict[str, Any]:
        """All node types the server knows."""
        return dict(self.get("/object_info"))

    def submit(self, prompt: Mapping[str, Any]) -> str:
        """Queue an API-format graph; its id. Raises PromptFailed when validation refuses it."""
        try:
            answer = self.post("/prompt", {"prompt": prompt, "client_id": self.client_id})
        except urllib.error.HTTPError as refusal:
            raise PromptFailed(refusal.read().decode("utf-8", "replace")) from None
        return str(answer["prompt_id"])

    def wait(self, prompt_id: str, timeout_s: float = 300.0) -> dict[str, Any]:
        """The finished run's history entry, which is filled a moment after the last event."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            entry = self.get(f"/history/{prompt_id}").get(prompt_id)
            if entry and entry.get("status", {}).get("status_str"):
                return dict(entry)
            time.sleep(0.1)
        raise TimeoutError(f"prompt {prompt_id} did not end within {timeout_s:.0f} s")

    def run(self, prompt: Mapping[str, Any], timeout_s: float = 300.0) -> dict[str, Any]:
        """Queue a graph and wait; outputs by node id. Raises PromptFailed with the node's error."""
        entry = self.wait(self.submit(prompt), timeout_s)
        if entry["status"]["status_str"] != "success":
            messages = entry["status"].get("messages", [])
            failures = [m[1] for m in messages if m[0] == "execution_error"]
            if failures:
                last = failures[-1]
                raise PromptFailed(
                    f"{last['node_type']}: {last['exception_type']}: {last['exception_message']}"
                )
            raise PromptFailed(str([m[0] for m in messages]))
        return dict(entry["outputs"])

    def interrupt(self) -> None:
        """What the Cancel button does."""
        self.post("/interrupt")

    def view(self, image: Mapping[str, str]) -> bytes:
        """The bytes of an image that a node reported under `images`."""
        with _open(f"{self.url}/view?{urlencode(image)}", timeout=60) as answer:
            return bytes(answer.read())

    def upload(self, name: str, content: bytes) -> str:
        """Upload a picture as Load Image does; the name to use in Load Image."""
        mark = uuid.uuid4().hex
        head = (
            f'--{mark}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        body = head.encode() + content + f"\r\n--{mark}--\r\n".encode()
        request = urllib.request.Request(
            f"{self.url}/upload/image",
            body,
            {"Content-Type": f"multipart/form-data; boundary={mark}"},
        )
        with _open(request, timeout=60) as answer:
            return str(json.load(answer)["name"])
