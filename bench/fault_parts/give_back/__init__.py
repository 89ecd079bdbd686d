"""A pack of one node for the bench's server: the C library gives back the pages it keeps free.

What it keeps depends on what ran last (a cancelled prompt leaves 100 MB less than a whole one), so
the resident memory says nothing of what is held as long as they are counted.
"""

from __future__ import annotations

import ctypes
import gc
from typing import Any


class GiveBack:
    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "give_back"
    CATEGORY = "bench"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"number": ("INT", {"default": 0})}}

    def give_back(self, number: int) -> dict[str, Any]:
        """number: another one each time, so that the node runs."""
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        return {}


NODE_CLASS_MAPPINGS = {"BenchGiveBack": GiveBack}
