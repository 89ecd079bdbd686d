"""One entry for people and CI: sets up what is missing, then does the job.

    python dev.py demo          erase a concept in a real ComfyUI and write demo_output/; stopped,
                                it goes on when it is started again (--quick, --flow, --concept dog)
    python dev.py test [...]    run the tests; further words go to pytest
    python dev.py serve         ComfyUI with this pack and its browser interface
    python dev.py lint          ruff and mypy
    python dev.py train [...]   train the demo models anew (--flow: the second)
    python dev.py bench NAME    run bench/NAME.py
    python dev.py workflows     write workflows/*.json and the blueprint from workflows/build.py
    python dev.py locales       write the nodes' texts for each language
    python dev.py pictures      draw the pictures of help pages and workflows
    python dev.py hosts [...]   run the host tests on several ComfyUI versions, or on those named;
                                COMFYUI_PATH's is called own. Writes docs/hosts.md
    python dev.py installs      install, run and uninstall the pack as users do
    python dev.py setup         only set up

Set-up needs a network once; after that nothing is downloaded. COMFYUI_PATH names your own ComfyUI
to use instead, COMFYUI_PYTHON the Python that runs it; with both, demo, serve and test set nothing
up. Standard library only.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from itertools import takewhile
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036 - the very check that an old Python should meet
    sys.exit("dev.py needs Python 3.10 or newer")

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from demo import options  # noqa: E402 - after the version check
from devtools import hosts, install, jobs  # noqa: E402
from devtools.processes import stop_on_terminate  # noqa: E402


def lint(_: list[str]) -> int:
    python = install.environment()
    return jobs.lint(python)


def setup(_: list[str]) -> int:
    install.environment()
    hosts.chosen()
    return 0


def test(words: list[str]) -> int:
    return jobs.test(*hosts.ready(), words)


def each_host(words: list[str]) -> int:
    own = bool(os.environ.get("COMFYUI_PATH"))
    names = list(takewhile(lambda word: word in (*hosts.PINNED, "own"), words))
    if "own" in names and not own:
        raise install.SetupError("own: COMFYUI_PATH has to name your ComfyUI")
    codes = {}
    for name in names or [*hosts.PINNED, *(["own"] if own else [])]:
        if name == "own":
            python, host = hosts.ready()
        else:
            python, host = install.environment(), hosts.pinned(name)
        codes[name] = jobs.test_host(python, host, words[len(names) :])
    for name, code in codes.items():
        print(f"ComfyUI {name}: {'passed' if code == 0 else f'failed ({code})'}", flush=True)
    return max(codes.values())


def demo(words: list[str]) -> int:
    options.parsed(words)  # a mistake is told before anything is set up
    return jobs.demo(*hosts.ready(), words)


def serve(words: list[str]) -> int:
    return jobs.serve(*hosts.ready(), words)


def train(words: list[str]) -> int:
    python = install.environment()
    return jobs.script(python, ROOT / "demo" / "train.py", hosts.chosen(), words, work=True)


def bench(words: list[str]) -> int:
    known = sorted(p.stem for p in (ROOT / "bench").glob("*.py") if not p.stem.startswith("_"))
    if not words or words[0] not in known:
        print(f"usage: python dev.py bench NAME, NAME one of: {', '.join(known) or '(none yet)'}")
        return 2
    # What these measure differs between versions of ComfyUI, of which each has its own Python.
    own = words[0] in ("quantised", "encoders", "device_check")
    python = hosts.ready()[0] if own else install.environment()
    return jobs.script(python, ROOT / "bench" / f"{words[0]}.py", hosts.chosen(), words[1:])


def workflows(words: list[str]) -> int:
    python = install.environment()
    return jobs.script(python, ROOT / "workflows" / "build.py", hosts.chosen(), words)


def locales(words: list[str]) -> int:
    python = install.environment()
    return jobs.script(python, ROOT / "devtools" / "locales.py", hosts.chosen(), words)


def pictures(words: list[str]) -> int:
    python = install.environment()
    return jobs.script(python, ROOT / "devtools" / "pictures.py", hosts.chosen(), words)


def installs(words: list[str]) -> int:
    python = install.environment()
    bare = hosts.Host(hosts.MAIN.name, hosts.unpacked(hosts.MAIN))
    return jobs.script(python, ROOT / "devtools" / "installs.py", bare, words)


COMMANDS = {
    "demo": demo,
    "test": test,
    "serve": serve,
    "lint": lint,
    "train": train,
    "bench": bench,
    "workflows": workflows,
    "locales": locales,
    "pictures": pictures,
    "hosts": each_host,
    "installs": installs,
    "setup": setup,
}


def main() -> int:
    words = sys.argv[1:]
    if not words or words[0] not in COMMANDS:
        print(__doc__)
        return 0 if words and words[0] in ("-h", "--help", "help") else 2
    os.chdir(ROOT)
    stop_on_terminate()
    try:
        return COMMANDS[words[0]](words[1:])
    except install.SetupError as problem:
        print(f"\ndev.py: {problem}", file=sys.stderr)
        return 1
    except OSError as problem:
        if problem.errno != errno.ENOSPC:
            raise
        print("\ndev.py: the disk is full; free some space and run it again", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndev.py: stopped", file=sys.stderr)
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
