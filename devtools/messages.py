"""What a ComfyUI server says over its websocket while it works."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Kinds that tell of work. Others, such as `status` or a monitor's, come from an idle server too.
WORK = {
    "execution_start",
    "execution_cached",
    "executing",
    "executed",
    "progress",
    "progress_state",
    "progress_text",
    "preview",
}
TEXT = 3  # ComfyUI's BinaryEventTypes.TEXT; the other binary events are pictures


@dataclass(frozen=True)
class Message:
    """One message. kind: ComfyUI's own name, or "progress_text" (data: node, text), "preview"."""

    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_work(self) -> bool:
        return self.kind in WORK

    def ends(self, prompt_id: str) -> bool:
        """Does it say that this prompt is over, in whatever way?"""
        return (
            self.kind == "executing"
            and self.data.get("node") is None
            and self.data.get("prompt_id") == prompt_id
        )


def decoded(frame: str | bytes) -> Message:
    """A websocket frame as a message."""
    if isinstance(frame, str):
        content = json.loads(frame)
        return Message(str(content.get("type")), content.get("data") or {})
    if int.from_bytes(frame[:4], "big") != TEXT:
        return Message("preview")
    text = 8 + int.from_bytes(frame[4:8], "big")  # where the node's id ends
    words = {"node": frame[8:text].decode(), "text": frame[text:].decode("utf-8", "replace")}
    return Message("progress_text", words)
