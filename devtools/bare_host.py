"""A ComfyUI as a newcomer has it: its own copy, its own Python packages, no pack in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .client import Client
from .hosts import HOST, Host
from .install import PINS, SetupError, install_shim, run
from .say import say
from .server import Server

PLACE = HOST / "installs"
OWN_PART = "# The pack's own dependency"  # in requirements-dev.txt, ends the host's pins
MANAGER = "comfyui-manager==4.3"
CLI = "comfy-cli==1.23.0"
# Written by ComfyUI and the Manager while they run, with or without a pack.
WRITTEN_BY_THE_HOST = {"user", "temp", "__pycache__", "server.log"}
PICTURE = {
    "demo": ("TVEraseDemoModel", {}),
    "text": ("CLIPTextEncode", {"clip": ["demo", 1], "text": "a cat"}),
    "empty": ("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": 1}),
    "draw": (
        "KSampler",
        {
            "model": ["demo", 0],
            "positive": ["text", 0],
            "negative": ["text", 0],
            "latent_image": ["empty", 0],
            "seed": 1,
            "steps": 1,
            "cfg": 1.0,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 1.0,
        },
    ),
    "pixels": ("VAEDecode", {"samples": ["draw", 0], "vae": ["demo", 2]}),
    "look": ("PreviewImage", {"images": ["pixels", 0]}),
}


def host_pins() -> str:
    """The part of requirements-dev.txt that is ComfyUI's, without ours and the tools'."""
    pins, mark, _ = PINS.read_text("utf-8").partition(OWN_PART)
    if not mark:
        raise SetupError(f"{PINS.name}: expected a line that starts with {OWN_PART!r}")
    return pins


def environment(name: str, requirements: str, size: str, shim: bool = False) -> Path:
    """A virtual environment of that name with exactly these requirements; its interpreter."""
    folder = PLACE / name
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = folder / "requirements.txt"  # written last, so that it tells that all is there
    if stamp.exists() and stamp.read_text("utf-8") == requirements:
        return python
    say(f"making {folder.relative_to(HOST.parent)} ({size})")
    shutil.rmtree(folder, ignore_errors=True)
    run([sys.executable, "-m", "venv", folder], "could not make a virtual environment")
    unfinished = folder / "unfinished.txt"
    unfinished.write_text(requirements, "utf-8")
    words = ["-m", "pip", "--disable-pip-version-check", "install", "-q", "-r", unfinished]
    run([python, *words], f"pip could not install the packages of {name}; is there a network?")
    if shim:
        install_shim(python)
    unfinished.rename(stamp)
    return python


def output_of(command: Sequence[str | Path], folder: Path, **variables: str) -> tuple[int, str]:
    """Exit code and all that a command says."""
    env = {**os.environ, "NO_PROXY": "127.0.0.1,localhost", "DO_NOT_TRACK": "1", **variables}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.returncode, done.stdout.decode("utf-8", "replace").strip()


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Packages of `before` that are gone or have another version; new ones are none of it."""
    return [
        f"{name} {version} -> {after.get(name, 'gone')}"
        for name, version in before.items()
        if after.get(name) != version
    ]


@dataclass(frozen=True)
class BareHost:
    """A ComfyUI tree of its own and the interpreter that runs it."""

    tree: Path
    python: Path

    @property
    def packs(self) -> Path:
        return self.tree / "custom_nodes"

    def files(self) -> set[str]:
        """All files but those that any run of ComfyUI and the Manager writes."""
        found = (path.relative_to(self.tree) for path in self.tree.rglob("*") if path.is_file())
        return {path.as_posix() for path in found if not WRITTEN_BY_THE_HOST & set(path.parts)}

    def packages(self) -> dict[str, str]:
        """Versions by name of all installed packages."""
        words = ["-m", "pip", "--disable-pip-version-check", "list", "--format=json"]
        text = subprocess.run(
            [str(self.python), *words], capture_output=True, text=True, check=True
        ).stdout
        return {entry["name"]: entry["version"] for entry in json.loads(text)}

    def pip(self, *words: str | Path) -> tuple[int, str]:
        """Exit code and words of a pip command."""
        return output_of([self.python, "-m", "pip", "--no-input", *words], self.tree)

    def drawn(self, folder: str) -> tuple[set[str], int]:
        """Start the server: (node types of that pack, pictures that a small graph draws)."""
        host = Host(self.tree.name, self.tree)
        with Server(host, self.python, threads=1, base=self.tree, own_pack=False) as server:
            client = Client(server.url, server.base)
            nodes = {
                name
                for name, info in client.object_info().items()
                if info["python_module"] == f"custom_nodes.{folder}"
            }
            graph: dict[str, Any] = {
                name: {"class_type": kind, "inputs": inputs}
                for name, (kind, inputs) in PICTURE.items()
            }
            return nodes, len(client.run(graph)["look"]["images"])
