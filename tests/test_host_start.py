"""A real ComfyUI server starts with the pack in it."""

from __future__ import annotations

from typing import Any

import pytest

from host_support.client import Client, PromptFailed


def test_pack_exports_what_the_host_reads(pack: Any) -> None:
    assert pack.NODE_CLASS_MAPPINGS
    assert set(pack.NODE_DISPLAY_NAME_MAPPINGS) == set(pack.NODE_CLASS_MAPPINGS)
    assert all(name.startswith("TVErase") for name in pack.NODE_CLASS_MAPPINGS)


def test_server_lists_our_nodes(server: Client, pack: Any) -> None:
    listed = {name for name in server.object_info() if name.startswith("TVErase")}
    assert listed == set(pack.NODE_CLASS_MAPPINGS)


def test_a_refused_prompt_tells_why(server: Client) -> None:
    with pytest.raises(PromptFailed, match="NoSuchNode"):
        server.run({"1": {"class_type": "NoSuchNode", "inputs": {}}})
