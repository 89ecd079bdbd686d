"""The commands of `dev.py`, once everything they need is there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from .hosts import HOST, Host
from .install import ROOT, bring_client
from .processes import foreground
from .say import say
from .server import Server, host_environment

CORES = os.cpu_count() or 1
TESTED = (0, 1)  # pytest's exit codes after a whole run: all passed, some failed
LINT = (
    ("-m", "ruff", "check", "."),
    ("-m", "ruff", "format", "--check", "."),
    ("-m", "mypy", "--strict", "tverase_core"),
)


def lint(python: Path) -> int:
    """ruff and mypy; all of them run, the worst exit code counts."""
    codes = []
    for words in LINT:
        say(" ".join(words[1:]))
        codes.append(foreground([python, *words], os.environ, ROOT))
    return max(codes)


def test(python: Path, host: Host, words: Sequence[str]) -> int:
    """pytest with the real host at hand. One thread: tiny tensors are slower with more."""
    env = host_environment(host, threads=1)
    env["COMFYUI_PYTHON"] = str(python)
    say(f"tests with ComfyUI {host.name}")
    return foreground([python, "-m", "pytest", *words], env, ROOT)


def test_host(python: Path, host: Host, words: Sequence[str]) -> int:
    """The tests that need a host, in process, over HTTP and in the browser; those that this version
    cannot pass skip themselves. Without further words, which would choose among the tests, what
    was found goes into docs/hosts.md and bench/results/hosts.json."""
    report = HOST / f"tests-{host.name.replace(' ', '-')}.xml"
    code = test(python, host, ["-m", "host or http", f"--junitxml={report}", *words])
    if words or code not in TESTED:
        return code
    writer = ROOT / "devtools" / "host_matrix.py"
    return script(python, writer, host, ["--report", str(report), "--name", host.name])


def script(python: Path, path: Path, host: Host, words: Sequence[str], work: bool = False) -> int:
    """Run one of the project's scripts with the host's tree."""
    command: list[str | Path] = [python, path, "--comfyui", host.tree]
    if work:
        (HOST / "work").mkdir(parents=True, exist_ok=True)
        command += ["--work", HOST / "work"]
    return foreground([*command, *words], host_environment(host, CORES), ROOT)


def demo(python: Path, host: Host, words: Sequence[str]) -> int:
    """demo/run_demo.py, which starts ComfyUI and talks to it."""
    bring_client(python)
    return script(python, ROOT / "demo" / "run_demo.py", host, words)


def serve(host_python: Path, host: Host, _: Sequence[str]) -> int:
    """ComfyUI with its browser interface until Ctrl-C; its folder stays for the next time."""
    base = HOST / "serve"
    base.mkdir(parents=True, exist_ok=True)
    say(f"starting ComfyUI {host.name}")
    with Server(host, host_python, CORES, base=base) as server:
        say(f"open {server.url} in a browser; its log is {server.log.relative_to(ROOT)}")
        say("press Ctrl-C to stop")
        assert server.process is not None
        try:
            code = server.process.wait()
        except KeyboardInterrupt:
            say("stopping")
            return 0
        say(f"ComfyUI ended by itself:\n{server.log_tail()}")
        return code or 1
