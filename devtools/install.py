"""The development environment `.venv/`: made once, then recognised by its stamp."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .only_one import only_one
from .say import Heartbeat, say

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PINS = ROOT / "requirements-dev.txt"
SHIM = Path(__file__).with_name("torchvision_cpu_shim.py")
STAMP = VENV / "tverase-stamp"
ROOM_BYTES = 2_500_000_000  # what set-up needs for a moment: the packages, and pip's own copies
RECIPE = "1"  # raise it when the steps below change


class SetupError(RuntimeError):
    """Set-up cannot go on; the sentence says what to do."""


def venv_python() -> Path:
    """The interpreter inside `.venv/`."""
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _wanted_stamp() -> str:
    digest = hashlib.sha256(RECIPE.encode())
    for source in (PINS, SHIM):
        digest.update(source.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()


def run(command: Sequence[str | Path], failure: str, label: str = "still working") -> None:
    """Run one set-up step in sight of the user; raises SetupError with `failure` if it fails.

    label: what is said when the step itself says nothing for a while.
    """
    full = False
    with Heartbeat(label) as heartbeat:
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        try:
            for line in process.stdout or ():
                full = full or "No space left" in line
                print(line, end="", flush=True)
                heartbeat.heard()
        except BaseException:
            process.terminate()
            raise
        finally:
            code = process.wait()
    if full:
        failure = f"the disk of {ROOT} is full; free some space and run the command again"
    if code:
        raise SetupError(f"{failure} (exit code {code}; the lines above say why)")


def pip(*words: str | Path) -> list[str | Path]:
    """A pip command of the development environment."""
    return [venv_python(), "-m", "pip", "--disable-pip-version-check", "--no-input", *words]


def install_shim(python: Path) -> None:
    """Let torchvision's CUDA build load beside a CPU torch in that environment."""
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    found = subprocess.run([python, "-c", query], capture_output=True, text=True, check=True)
    folder = Path(found.stdout.strip())
    (folder / "_torchvision_cpu_shim.py").write_text(SHIM.read_text("utf-8"), "utf-8")
    (folder / "_torchvision_cpu_shim.pth").write_text("import _torchvision_cpu_shim\n", "utf-8")


def environment() -> Path:
    """Make `.venv/` complete if it is not; returns its interpreter."""
    if _is_complete():
        return venv_python()
    with only_one(ROOT / ".host" / "setup.lock", "waiting for the set-up of another dev.py"):
        if not _is_complete():
            _set_up()
    return venv_python()


def _is_complete() -> bool:
    return venv_python().exists() and STAMP.exists() and STAMP.read_text() == _wanted_stamp()


def _set_up() -> None:
    require_room(ROOT, ROOM_BYTES)
    python = venv_python()
    if not _has_pip(python):  # also what a stopped set-up leaves
        say(f"step 1 of 3: making {VENV.name}/ with Python {sys.version.split()[0]}")
        run(
            [sys.executable, "-m", "venv", "--clear", VENV],
            "could not make a virtual environment; on Debian or Ubuntu install python3-venv",
            "step 1 of 3, making the environment",
        )
    say(f"step 2 of 3: installing {PINS.name} (about 1.7 GB, one to five minutes)")
    run(
        pip("install", "-r", PINS),
        "pip could not install the pinned packages; is there a network?",
        "step 2 of 3, pip is working",
    )
    say("step 3 of 3: finishing the environment")
    install_shim(python)
    STAMP.write_text(_wanted_stamp())


def _has_pip(python: Path) -> bool:
    if not python.exists():
        return False
    words = [str(python), "-m", "pip", "--version"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def require_room(folder: Path, wanted: int) -> None:
    """Raises SetupError when the folder's disk has less free."""
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise SetupError(
            f"the disk of {folder} has {free / 1e9:.1f} GB free, expected at least "
            f"{wanted / 1e9:.1f} GB; free some space and run the command again"
        )


def bring_client(python: Path) -> None:
    """Put what the development client needs and this interpreter lacks into .host/client/."""
    folder = ROOT / ".host" / "client"
    code = f"import sys; sys.path.append({str(folder)!r}); import requests, tqdm, websocket"
    found = subprocess.run([python, "-c", code], capture_output=True, check=False)
    if found.returncode == 0:
        return
    names = ("requests", "tqdm", "websocket-client")
    pins = [line for line in PINS.read_text("utf-8").splitlines() if line.split("==")[0] in names]
    say(f"{python} lacks one of {', '.join(names)}: installing them into {folder}")
    run(
        [python, "-m", "pip", "install", "--target", folder, "--upgrade", *pins],
        f"could not install {', '.join(names)} for {python}; is there a network, and pip?",
    )
