"""Text for people on a console, or in the file that it is sent to."""

from __future__ import annotations

import sys


def escape_what_cannot_be_shown() -> None:
    """Letters that the output's encoding lacks are written as their numbers from here on. Python
    would end with an error, after the work, for a name in Chinese on a console of Windows."""
    change = getattr(sys.stdout, "reconfigure", None)  # tests and other hosts have other objects
    if change is not None:
        change(errors="backslashreplace")
