"""The demo: erase a concept in a real ComfyUI over HTTP, then count what is left of it.

Called by `python dev.py demo`. The graph is workflows/api/erase_concept_auto.json, where the
strength is measured and no number is typed; `--quick` takes erase_concept and the strength that a
person chose; with `--flow` it is their twins on the second model. Every picture is drawn by the
server's stock KSampler, and the judge only looks at the saved PNG files. A demo that was stopped
goes on from its last finished step.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path += [str(HERE), str(ROOT), str(ROOT / ".host" / "client")]

from demo.kept_steps import KeptSteps, digest_of  # noqa: E402 - after the path
from demo.options import parsed  # noqa: E402
from devtools.client import Client, PromptFailed, ServerGone  # noqa: E402
from devtools.hosts import HOST, Host  # noqa: E402
from devtools.install import SetupError, require_room  # noqa: E402
from devtools.only_one import Taken, only_one  # noqa: E402
from devtools.processes import stop_on_terminate  # noqa: E402
from devtools.say import Heartbeat, say  # noqa: E402
from devtools.server import Server  # noqa: E402
from devtools.terminal import Terminal  # noqa: E402

PLACE = HOST / "demo"
ROOM_BYTES = 600_000_000  # vector, unfinished work and pictures
GOES_ON = "What is done is kept: the same command goes on from there."
FULL = "No space left"


def made_with(tree: Path) -> str:
    """Names all that a step's outcome depends on beside its graph: code and models."""
    shipped = [p for name in ("tverase_core", "nodes") for p in (ROOT / name).rglob("*.py")]
    host = [path for path in (tree / "comfyui_version.py",) if path.exists()]
    models = (HERE / "model").glob("*.safetensors")
    return digest_of([str(tree)], [*shipped, *host, *models])


def demonstrate(options: argparse.Namespace) -> None:
    """Start ComfyUI, erase, stop it."""
    base = PLACE / f"{options.concept}-{options.workflow}"
    require_room(ROOT, ROOM_BYTES)
    options.output.mkdir(parents=True, exist_ok=True)
    kept = KeptSteps(base, made_with(options.comfyui))
    server = Server(
        Host("of the demo", options.comfyui), Path(sys.executable), os.cpu_count() or 1, base=base
    )
    say(f"starting ComfyUI; its log is {server.log.relative_to(ROOT)}")
    with server:
        say(f"ComfyUI answers at {server.url}")
        with Heartbeat("loading torch"):
            from demo.erasing import Demo
        if kept.from_before:
            say(f"going on from the demo that was stopped, {len(kept)} steps are done")
        terminal = Terminal()
        try:
            Demo(options, Client(server.url, base), kept, terminal).run()
        except ServerGone as problem:
            assert server.process is not None
            code = server.process.poll()
            raise SetupError(
                f"{problem}"
                + ("" if code is None else f": it ended with code {code}")
                + f". {GOES_ON}\n{server.log_says()}"
            ) from None
        finally:
            terminal.drop()


def main() -> int:
    stop_on_terminate()
    options = parsed(sys.argv[1:])
    try:
        with only_one(HOST / "demo.lock"):
            demonstrate(options)
    except Taken:
        problem = "another demo is running in this folder; wait for it, or stop it with Ctrl-C"
    except SetupError as failure:
        problem = str(failure)
    except PromptFailed as failure:
        problem = f"{failure}\n{GOES_ON} To start anew, delete {PLACE.relative_to(ROOT)}."
    except KeyboardInterrupt:
        print(f"\nstopped. {GOES_ON}", file=sys.stderr)
        return 130
    else:
        return 0
    print(f"\nthe demo stopped: {problem}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
