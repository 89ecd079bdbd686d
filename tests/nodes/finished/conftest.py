"""An output folder of their own, a world that counts as known, and a count of network calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def folder(comfy_host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where finished work is kept; it is not made yet."""
    monkeypatch.setattr(comfy_host.folder_paths, "get_output_directory", lambda: str(tmp_path))
    return tmp_path / "finished_work"


@pytest.fixture
def known_world(pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' judge and VAE count as the pack's own."""
    from tverase_pack.nodes.host.training import identity

    monkeypatch.setattr(identity, "KNOWN", (*identity.KNOWN, "host_support"))


@pytest.fixture
def calls(pack: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with every call of the network."""
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    plain, made = UNetModel.forward, list[int]()

    def forward(self: Any, *words: Any, **named: Any) -> Any:
        made.append(1)
        return plain(self, *words, **named)

    monkeypatch.setattr(UNetModel, "forward", forward)
    return made
