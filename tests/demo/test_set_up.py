"""Set-up and servers in bad circumstances: a sentence, and the next run works."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from devtools import hosts, install, server
from devtools.hosts import Host
from devtools.install import SetupError
from devtools.only_one import Taken, only_one
from devtools.say import Heartbeat
from devtools.server import Server

FAILS = "import sys; print('ERROR: [Errno 28] No space left on device'); sys.exit(1)"


def test_silent_work_shows_that_it_lives(capsys: pytest.CaptureFixture[str]) -> None:
    with Heartbeat("pip is working", silent_s=0.1) as heartbeat:
        time.sleep(0.35)
        heartbeat.heard()
    lines = capsys.readouterr().out.splitlines()
    assert 2 <= len(lines) <= 4
    assert lines[0] == "[dev.py] pip is working: 0 s"


def test_a_failing_step_says_what_to_do_and_a_full_disk_is_told_apart() -> None:
    with pytest.raises(SetupError, match="is there a network"):
        install.run([sys.executable, "-c", "raise SystemExit(1)"], "failed; is there a network?")
    with pytest.raises(SetupError, match=r"the disk of .* is full"):
        install.run([sys.executable, "-c", FAILS], "failed; is there a network?")


def test_too_little_room_is_said_before_anything_is_brought(tmp_path: Path) -> None:
    install.require_room(tmp_path, 1)
    with pytest.raises(SetupError, match="free some space"):
        install.require_room(tmp_path, 10**18)


def test_half_an_environment_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose making was stopped before it had pip, and one that was stopped in pip."""
    asked: list[str] = []
    monkeypatch.setattr(install, "VENV", tmp_path / "venv")
    monkeypatch.setattr(install, "STAMP", tmp_path / "venv" / "stamp")
    monkeypatch.setattr(install, "ROOT", tmp_path)
    monkeypatch.setattr(install, "install_shim", lambda python: None)
    monkeypatch.setattr(install, "require_room", lambda folder, wanted: None)

    def run(command: list[str], *words: str) -> None:
        asked.append("venv" if "venv" in command else "pip")
        install.venv_python().parent.mkdir(parents=True, exist_ok=True)
        install.venv_python().write_text("#!/bin/sh\n")
        install.venv_python().chmod(0o755)

    monkeypatch.setattr(install, "run", run)
    install.venv_python().parent.mkdir(parents=True)
    install.venv_python().write_text("#!/bin/sh\nexit 1\n")  # a Python without pip
    install.venv_python().chmod(0o755)
    install.environment()
    assert asked == ["venv", "pip"]
    install.STAMP.unlink()  # stopped before the last line
    install.environment()
    assert asked == ["venv", "pip", "pip"]
    install.environment()
    assert asked == ["venv", "pip", "pip"]


def test_with_both_variables_nothing_is_set_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("main.py", "comfy/cli_args.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(hosts, "environment", lambda: pytest.fail("it was set up"))
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    monkeypatch.setenv("COMFYUI_PYTHON", sys.executable)
    python, host = hosts.ready()
    assert (python, host.tree) == (Path(sys.executable), tmp_path)
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path / "nowhere"))
    with pytest.raises(SetupError, match="COMFYUI_PATH: expected a folder of ComfyUI"):
        hosts.ready()


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    root = Path(install.__file__).resolve().parent.parent
    code = (
        f"import sys, time; sys.path.insert(0, {str(root)!r})\n"
        "from pathlib import Path; from devtools.only_one import only_one\n"
        f"with only_one(Path({str(path)!r})): print('held', flush=True); time.sleep(60)"
    )
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(Taken), only_one(path):
            pass
        other.send_signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
        other.wait()
    with only_one(path):
        pass
    with only_one(path):
        pass


def host_that(tmp_path: Path, script: str) -> Host:
    """A ComfyUI whose main.py is this script; the port is its `port`."""
    tree = tmp_path / "tree"
    (tree / "comfy").mkdir(parents=True)
    (tree / "comfy" / "cli_args.py").write_text('"--base-directory"')
    head = "import sys; port = int(sys.argv[sys.argv.index('--port') + 1])\n"
    (tree / "main.py").write_text(head + script)
    return Host("fake", tree)


ANSWERS = """
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"{}")
try:
    HTTPServer(("127.0.0.1", port), Handler).serve_forever()
except OSError:
    sys.exit("[Errno 98] error while attempting to bind on address")
"""


def test_a_comfyui_that_does_not_start_is_told_with_its_log(tmp_path: Path) -> None:
    host = host_that(tmp_path, "sys.exit('No module named torch')")
    failing = Server(host, Path(sys.executable), 1, base=tmp_path / "base")
    with pytest.raises(SetupError, match=r"ended while starting(.|\n)*No module named torch"):
        failing.__enter__()
    assert failing.process is None
    assert not (tmp_path / "base" / "custom_nodes" / "tverase").exists()


def test_a_port_that_was_taken_meanwhile_is_left_to_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner may be another ComfyUI, which answers as ours would."""
    real = server.free_port
    host = host_that(tmp_path, ANSWERS)
    with socket.socket() as owner:
        owner.bind(("127.0.0.1", 0))
        owner.listen()
        taken = owner.getsockname()[1]
        ports = iter([taken])
        monkeypatch.setattr(server, "free_port", lambda: next(ports, None) or real())
        with Server(host, Path(sys.executable), 1, base=tmp_path / "base") as running:
            assert running.port != taken
