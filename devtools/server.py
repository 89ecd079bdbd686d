"""A ComfyUI server of our own: its own base folder, a free port, this computer only."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from .hosts import HOST, Host
from .install import ROOT, SetupError
from .processes import end_group, start_group
from .say import Heartbeat, say

PACK = "tverase"
PORT_TAKEN = "error while attempting to bind"  # what the log says of it, on every system
NOT_THE_PACK = shutil.ignore_patterns(".*", "__pycache__", "demo_output")
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open  # never a proxy here


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def link_folder(source: Path, target: Path) -> None:
    """Make `target` show `source`: a link, else a Windows junction, else a copy."""
    try:
        target.symlink_to(source, target_is_directory=True)
        return
    except OSError:
        if os.name != "nt":
            raise
    try:
        import _winapi

        _winapi.CreateJunction(str(source), str(target))  # type: ignore[attr-defined,unused-ignore]
    except (ImportError, OSError):
        shutil.copytree(source, target, ignore=NOT_THE_PACK)


def unlink_folder(target: Path) -> None:
    """Undo `link_folder` without touching what the link shows."""
    if target.is_symlink():
        target.unlink()
        return
    try:
        target.rmdir()  # a junction goes, a copy is not empty
    except OSError:
        shutil.rmtree(target, ignore_errors=True)


def new_base() -> Path:
    """An unused base folder `.host/base-<n>/`."""
    HOST.mkdir(exist_ok=True)
    for number in range(1, 10_000):
        base = HOST / f"base-{number}"
        try:
            base.mkdir()
        except FileExistsError:
            continue
        return base
    raise SetupError(f"no free base folder in {HOST}; delete old base-* folders there")


def host_environment(host: Host, threads: int) -> dict[str, str]:
    """Environment variables for a process that runs the host's code."""
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    # GNU's OpenMP lets a thread that waits spin 300,000 times: beside other work on the cores the
    # threads wait for each other in turn, and the demo's fine-tune took many times as long. With
    # 1,000 a thread falls asleep between two operations of the network, and on quiet cores the
    # fine-tune takes a fifth longer than with 5,000 or more.
    env.setdefault("GOMP_SPINCOUNT", "5000")
    env["COMFYUI_PATH"] = str(host.tree)
    if host.python_path:
        env["PYTHONPATH"] = str(host.python_path)
    return env


class Server:
    """A running ComfyUI with this pack in it. Use as a context manager.

    The base folder is removed at a clean end and kept, with `server.log`, after a failure.
    """

    def __init__(
        self,
        host: Host,
        python: Path,
        threads: int,
        base: Path | None = None,
        extra_packs: Mapping[str, Path] | None = None,
        own_pack: bool = True,
    ):
        self.host, self.python, self.threads = host, python, threads
        self.keeps_base = base is not None  # set it after a failure, for a look at the log
        self.base = base or new_base()
        self.packs = {**({PACK: ROOT} if own_pack else {}), **(extra_packs or {})}
        self.log = self.base / "server.log"
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str | Path]:
        """The server's command line, with only flags that this version knows."""
        host, base = self.host, self.base
        words: list[str | Path] = [self.python, host.tree / "main.py", "--cpu"]
        words += ["--listen", "127.0.0.1", "--port", str(self.port), "--disable-auto-launch"]
        words += ["--use-pytorch-cross-attention"]
        if host.knows("--base-directory"):
            words += ["--base-directory", base]
        else:
            words += ["--extra-model-paths-config", self._paths_file()]
            for kind in ("input", "output", "temp", "user"):
                words += [f"--{kind}-directory", base / kind]
        if host.knows("--database-url"):
            words += ["--database-url", "sqlite:///:memory:"]
        if host.knows("--disable-api-nodes"):
            words += ["--disable-api-nodes"]
        return words

    def _paths_file(self) -> Path:
        lines = ["tverase_dev:", f"  base_path: {json.dumps(str(self.base))}"]
        lines += ["  custom_nodes: custom_nodes"]
        lines += [f"  {kind}: models/{kind}" for kind in ("checkpoints", "loras", "embeddings")]
        path = self.base / "paths.yaml"
        path.write_text("\n".join(lines) + "\n", "utf-8")
        return path

    def start(self) -> None:
        """Start the process; `wait_ready` tells when it answers."""
        kinds = ("checkpoints", "loras", "embeddings")
        inner = [f"models/{kind}" for kind in kinds]
        for folder in ("custom_nodes", "input", "output", "temp", "user/default", *inner):
            (self.base / folder).mkdir(parents=True, exist_ok=True)
        settings = self.base / "user" / "default" / "comfy.settings.json"
        if not settings.exists():  # else a first visit covers the canvas with a dialog
            settings.write_text('{"Comfy.TutorialCompleted": true}', "utf-8")
        for name, source in self.packs.items():
            unlink_folder(self.base / "custom_nodes" / name)
            link_folder(source, self.base / "custom_nodes" / name)
        env = host_environment(self.host, self.threads)
        with self.log.open("wb") as output:
            self.process = start_group(self.command(), env, self.host.tree, output)

    def wait_ready(self, timeout_s: float = 300.0) -> None:
        """Return once `/system_stats` answers; raises SetupError with the log's end otherwise."""
        assert self.process is not None, "start() comes first"
        deadline = time.monotonic() + timeout_s
        with Heartbeat("ComfyUI is starting"):
            while time.monotonic() < deadline:
                answers = self._answers()
                if self.process.poll() is not None:  # first: another program may have the port
                    raise SetupError(f"ComfyUI ended while starting. {self.log_says()}")
                if answers:
                    return
                time.sleep(0.3)
        raise SetupError(f"ComfyUI did not answer within {timeout_s:.0f} s. {self.log_says()}")

    def _answers(self) -> bool:
        try:
            with _open(f"{self.url}/system_stats", timeout=5) as answer:
                json.load(answer)
        except (urllib.error.URLError, OSError, ValueError):
            return False
        return True

    def log_says(self) -> str:
        """Where the log is and how it ends."""
        return f"Its log is {self.log}; it ends:\n{self.log_tail()}"

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of the server's log."""
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:])

    def stop(self) -> None:
        """End the process and take the links away."""
        if self.process is not None:
            end_group(self.process)
            self.process = None
        for name in self.packs:
            unlink_folder(self.base / "custom_nodes" / name)

    def _start_ready(self, tries: int = 3) -> None:
        """Start and wait; on another port when somebody took ours before ComfyUI could."""
        try:
            self.start()
            self.wait_ready()
        except SetupError:
            if tries == 1 or PORT_TAKEN not in self.log_tail():
                raise
            say(f"port {self.port} was taken meanwhile, trying another")
            self.stop()
            self.port = free_port()
            self._start_ready(tries - 1)

    def __enter__(self) -> Server:
        try:
            self._start_ready()
        except BaseException as problem:
            self.__exit__(type(problem))
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop()
        failed = kind is not None and issubclass(kind, Exception)  # Ctrl-C is no failure
        if not failed and not self.keeps_base:
            shutil.rmtree(self.base, ignore_errors=True)
