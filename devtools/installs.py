"""Every way to install the pack, tried on a bare ComfyUI: `python dev.py installs`.

The Registry's zip by comfy-cli and the Manager's command line with a git server on this computer.
Takes the working tree without what git ignores. Writes bench/results/installs.json.
Exit code: 0 all targets met, 1 one is missed or ComfyUI did not start, 2 it could not be tried:
this is no git checkout, or the packages for ComfyUI and its tools cannot be had.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

from devtools import bare_host  # noqa: E402 - after the path
from devtools.bare_host import BareHost, changed, output_of  # noqa: E402 - after the path
from devtools.figures import Figure, figures_document, write_figures  # noqa: E402
from devtools.install import SetupError, run  # noqa: E402 - after the path

RESULT = ROOT / "bench" / "results" / "installs.json"
NAME = "tverase"
NODES = set(json.loads((ROOT / "tests" / "data" / "node_interface.json").read_text("utf-8")))
TROUBLE = ("warning", "error", "not found")


class Findings:
    """What was found, told line by line; a figure each."""

    def __init__(self) -> None:
        self.figures: dict[str, Figure] = {}

    def count(self, name: str, value: int, target: str, words: str = "") -> None:
        """One figure with its target, and what to say where it is missed."""
        figure = self.figures[name] = Figure(value, target)
        verdict = "pass" if figure.met() else "FAIL"
        print(f"{verdict}  {name}: {value} (target {target})", flush=True)
        if not figure.met() and words:
            print("      " + words.replace("\n", "\n      "), flush=True)

    @property
    def passed(self) -> bool:
        return all(figure.met() for figure in self.figures.values())


def troubles(code: int, text: str) -> list[str]:
    """Lines of a tool's answer that warn or report an error; the exit code counts as one."""
    lines = [line for line in text.splitlines() if any(w in line.lower() for w in TROUBLE)]
    return lines + [f"exit code {code}"] * (code != 0)


def check_zip(checkout: Path, cli: Path, host: BareHost, found: Findings) -> None:
    """comfy node validate, comfy node pack, the zip unpacked by hand, pip install, run."""
    comfy = [cli, "-m", "comfy_cli", "--skip-prompt", "node"]
    for job in ("validate", "pack"):
        code, text = output_of([*comfy, job], checkout)
        found.count(f"{job}_warnings", len(troubles(code, text)), "<= 0", text)
    with zipfile.ZipFile(checkout / "node.zip") as archive:
        archive.extractall(host.packs / NAME)
    before = host.packages()
    words = ("install", "-q", "-r", host.packs / NAME / "requirements.txt")
    code, text = host.pip(*words)
    found.count("zip_requirements_installed", int(code == 0), ">= 1", text)
    check_packages("zip", before, host, found)
    check_run("zip", host, found)
    shutil.rmtree(host.packs / NAME)
    tidy(before, host)


def check_manager(repository: Path, host: BareHost, found: Findings) -> None:
    """ComfyUI-Manager's command line: install from a git address, run, uninstall."""
    before, files = host.packages(), host.files()
    cm = [host.python, "-m", "cm_cli"]
    with served(repository.parent) as address:
        words = ["install", "--mode", "local", f"{address}/{repository.name}"]
        code, text = output_of([*cm, *words], host.tree, COMFYUI_PATH=str(host.tree))
    installed = (host.packs / NAME / "__init__.py").exists()
    found.count("manager_installed", int(installed and code == 0), ">= 1", text)
    check_packages("manager", before, host, found)
    check_run("manager", host, found)
    _, text = output_of([*cm, "uninstall", NAME], host.tree, COMFYUI_PATH=str(host.tree))
    left = sorted(host.files() - files)
    found.count("manager_files_left", len(left), "<= 0", "\n".join([text, *left[:10]]))
    tidy(before, host)


def check_packages(way: str, before: dict[str, str], host: BareHost, found: Findings) -> None:
    """No package of the host has changed, and none misses anything."""
    after = host.packages()
    print("      new packages:", ", ".join(sorted(set(after) - set(before))) or "none", flush=True)
    moved = changed(before, after)
    found.count(f"{way}_host_packages_changed", len(moved), "<= 0", "\n".join(moved))
    code, text = host.pip("check")
    found.count(f"{way}_pip_check_complaints", len(text.splitlines()) if code else 0, "<= 0", text)


def check_run(way: str, host: BareHost, found: Findings) -> None:
    """The server lists every node, and a small graph draws."""
    nodes, pictures = host.drawn(NAME)
    missing = f"missing: {sorted(NODES - nodes)}"
    found.count(f"{way}_nodes_loaded", len(nodes & NODES), f">= {len(NODES)}", missing)
    found.count(f"{way}_pictures_drawn", pictures, ">= 1")


def tidy(before: dict[str, str], host: BareHost) -> None:
    """Take out what an installation brought, so that the next one brings it again."""
    new = sorted(set(host.packages()) - set(before))
    if new:
        host.pip("uninstall", "-q", "-y", *new)


def committed(folder: Path) -> None:
    """A git repository there whose one commit holds the working tree."""
    listed = [
        "git",
        "-C",
        str(ROOT),
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    done = subprocess.run(listed, capture_output=True, check=False)
    if done.returncode:
        raise SetupError(f"git cannot list this checkout: {done.stderr.decode('utf-8', 'replace')}")
    for name in done.stdout.decode("utf-8").split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    git = ["git", "-C", folder, "-c", "user.name=installs", "-c", "user.email=installs@localhost"]
    for words in (["init", "-q"], ["add", "-A", "-f"], ["commit", "-q", "-m", "as it is now"]):
        run([*git, *words], f"git {words[0]} failed in a copy of this checkout")


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A web server for that folder, this computer only; its address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True, help="a ComfyUI source tree")
    parser.add_argument("--figures", type=Path, default=RESULT, help="the file to write")
    options = parser.parse_args()
    found = Findings()
    bare_host.PLACE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="run-", dir=bare_host.PLACE) as name:
        work = Path(name)
        repository, checkout = work / f"{NAME}.git", work / "checkout"
        try:
            committed(checkout)
            pins = bare_host.host_pins() + bare_host.MANAGER + "\n"
            python = bare_host.environment("host", pins, "1.6 GB", shim=True)
            cli = bare_host.environment("comfy-cli", f"{bare_host.CLI}\n", "100 MB")
        except SetupError as problem:
            print(f"installs: {problem}", file=sys.stderr)
            return 2
        failure = "git could not copy a repository"
        # Not by links to the loose objects: fetching each over HTTP would take long.
        run(["git", "clone", "-q", "--bare", "--no-local", checkout, repository], failure)
        run(["git", "-C", repository, "update-server-info"], failure)
        host = BareHost(work / "comfyui", python)
        shutil.copytree(options.comfyui, host.tree)
        host.packs.mkdir(exist_ok=True)
        check_zip(checkout, cli, host, found)
        check_manager(repository, host, found)
    write_figures(
        options.figures,
        figures_document(
            "installs",
            "python dev.py installs",
            datetime.now(timezone.utc).strftime("%Y-%m-%d"),
            {
                "host": options.comfyui.name,
                "comfy_cli": bare_host.CLI,
                "manager": bare_host.MANAGER,
                "python": sys.version.split()[0],
            },
            found.figures,
        ),
    )
    return 0 if found.passed else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SetupError as problem:
        sys.exit(f"installs: {problem}")
