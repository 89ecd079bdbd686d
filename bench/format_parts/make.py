"""In the tools' environment: every file of every tool, below the folder that is given."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))
warnings.filterwarnings("ignore")

from bench.format_parts.tiny_unet import save_bases  # noqa: E402 - after the path

TOOLS = ("by_peft", "by_diffusers", "by_lycoris", "by_erasers", "by_checkpoints")


def main() -> None:
    work = Path(sys.argv[1])
    chosen = sys.argv[2:] or TOOLS
    if not (work / "sd15").exists():
        save_bases(work)
    for tool in chosen:
        print(f"formats: {tool}", flush=True)
        import_module(f"bench.format_parts.{tool}").make(work)


if __name__ == "__main__":
    main()
