"""Progress bar, live preview, text on the node and the Cancel button, as one core `Progress`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import comfy.model_management
import comfy.utils
from PIL import Image

TELL_EVERY_S = 1.5  # texts, and pictures that cost little
PREVIEW_SHARE = 0.02  # of the time at most goes into pictures
PREVIEW_SIZE = 400


class NodeProgress:
    """Callable (done, total, message); raises the host's interrupt when the user cancels.

    preview: makes a picture of the job so far; asked at most every 1.5 seconds, and less often if
    it would take more than 2 % of the time.
    """

    def __init__(self, preview: Callable[[], Image.Image | None] | None = None):
        self._bar = comfy.utils.ProgressBar(1)
        self._preview, self._next_picture, self._next_text = preview, 0.0, 0.0

    def __call__(self, done: int, total: int, message: str = "") -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        now = time.monotonic()
        picture = self._drawn() if done == total or now > self._next_picture else None
        if message and (done == total or now > self._next_text):
            self._next_text = now + TELL_EVERY_S
            show_text(message)
        self._bar.update_absolute(done, total, picture)

    def _drawn(self) -> tuple[str, Image.Image, int] | None:
        """The job so far, as the bar takes it. A loss curve takes a tenth of a second: every 1.5
        seconds that was a twelfth of the demo's fine-tune."""
        began = time.monotonic()
        drawn = self._preview() if self._preview else None
        picture = None if drawn is None else ("JPEG", drawn.convert("RGB"), PREVIEW_SIZE)
        ended = time.monotonic()
        self._next_picture = ended + max(TELL_EVERY_S, (ended - began) / PREVIEW_SHARE)
        return picture

    def show(self, picture: Image.Image) -> None:
        """Put a picture on the running node at once."""
        self._bar.update_absolute(1, 1, ("JPEG", picture.convert("RGB"), PREVIEW_SIZE))


@contextmanager
def tell_cancelled() -> Iterator[None]:
    """Text on the running node when Cancel ends the block."""
    try:
        yield
    except comfy.model_management.InterruptProcessingException:
        show_text("cancelled")
        raise


def show_text(message: str) -> None:
    """Text on the running node, where this ComfyUI can show it (0.3.45 and newer).

    It stays there until the next text, and only who queued the graph gets it: other graphs have
    nodes of the same number.
    """
    from importlib import util

    if not (util.find_spec("comfy_execution") and util.find_spec("comfy_execution.utils")):
        return
    import comfy_execution.utils as context_tools
    from server import PromptServer

    current = getattr(context_tools, "get_executing_context", lambda: None)()
    server = getattr(PromptServer, "instance", None)
    client = getattr(server, "client_id", None)
    if current is not None and client is not None and hasattr(server, "send_progress_text"):
        server.send_progress_text(message, current.node_id, client)
