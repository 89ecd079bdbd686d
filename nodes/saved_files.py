"""What the nodes that save and load our own files share."""

from __future__ import annotations

from datetime import datetime, timezone

TASK_VECTORS, INVERSION_SETS = "task_vectors", "inversion_sets"


class ReadsFile:
    """Base of the nodes that load the listed file `file` of one kind."""

    KIND: str

    @classmethod
    def VALIDATE_INPUTS(cls, file: str) -> bool | str:
        """Files saved after the page was opened are accepted too."""
        from .host.paths import find_file

        try:
            find_file(cls.KIND, file)
        except FileNotFoundError as missing:
            return str(missing)
        return True

    @classmethod
    def IS_CHANGED(cls, file: str) -> str:
        """Reload when the file on disk is another one."""
        from .host.paths import find_file

        facts = find_file(cls.KIND, file).stat()
        return f"{facts.st_mtime_ns} {facts.st_size}"


def utc_now() -> str:
    """This second, as the files' metadata give it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
