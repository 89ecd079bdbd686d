"""What the nodes that save and load our own files share."""

from __future__ import annotations

from datetime import datetime, timezone

from .widgets import Widgets, choice, text


class ReadsFile:
    """Base of the nodes that load the listed file `file` of one kind."""

    KIND: str

    @classmethod
    def VALIDATE_INPUTS(cls, file: str | None) -> bool | str:
        """Files saved after the page was opened are accepted too. None is a value that another
        node gives; it is checked when it is there."""
        from ..host.app.paths import find_file

        if file is None:
            return True
        try:
            find_file(cls.KIND, file)
        except FileNotFoundError as missing:
            return str(missing)
        return True

    @classmethod
    def IS_CHANGED(cls, file: str | None) -> str | float:
        """Reload when the file on disk is another one, and when nobody knows."""
        from ..host.app.paths import find_file

        if file is None:
            return float("nan")
        facts = find_file(cls.KIND, file).stat()
        return f"{facts.st_mtime_ns} {facts.st_size}"


def vector_file_widgets(default: str) -> Widgets:
    """Where a node writes a task vector, and in which dtype. default: folder and name."""
    return {
        "filename_prefix": text(default, "Folder and name under output/loras; a number is added."),
        "dtype": choice(
            ["float32", "bfloat16"],
            "bfloat16 halves the file, each value is then 0.4 % off at most.",
            default="float32",
        ),
    }


def utc_now() -> str:
    """This second, as the files' metadata give it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
