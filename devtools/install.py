"""The development environment `.venv/`: made once, then recognised by its stamp."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PINS = ROOT / "requirements-dev.txt"
SHIM = Path(__file__).with_name("torchvision_cpu_shim.py")
RECIPE = "1"  # raise it when the steps below change


class SetupError(RuntimeError):
    """Set-up cannot go on; the sentence says what to do."""


def say(message: str) -> None:
    """One line of progress."""
    print(f"[dev.py] {message}", flush=True)


def venv_python() -> Path:
    """The interpreter inside `.venv/`."""
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _wanted_stamp() -> str:
    digest = hashlib.sha256(RECIPE.encode())
    for source in (PINS, SHIM):
        digest.update(source.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()


def run(command: Sequence[str | Path], failure: str) -> None:
    """Run one set-up step in sight of the user; raises SetupError with `failure` if it fails."""
    code = subprocess.run([str(word) for word in command], cwd=ROOT, check=False).returncode
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
    stamp = VENV / "tverase-stamp"
    python = venv_python()
    if python.exists() and stamp.exists() and stamp.read_text() == _wanted_stamp():
        return python
    if not python.exists():
        say(f"step 1 of 3: making {VENV.name}/ with Python {sys.version.split()[0]}")
        run(
            [sys.executable, "-m", "venv", VENV],
            "could not make a virtual environment; on Debian or Ubuntu install python3-venv",
        )
    say(f"step 2 of 3: installing {PINS.name} (about 1.7 GB, one to five minutes)")
    run(
        pip("install", "-r", PINS), "pip could not install the pinned packages; is there a network?"
    )
    say("step 3 of 3: finishing the environment")
    install_shim(python)
    stamp.write_text(_wanted_stamp())
    return python
