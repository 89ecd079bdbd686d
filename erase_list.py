"""Erase a list of concepts from a checkpoint: one command, no browser, no server.

    python erase_list.py concepts.yaml --comfyui PATH_OF_COMFYUI
    accelerate launch --num_processes 4 erase_list.py ... as above      on four GPUs

The list's form and an example are in docs/erase-a-list.md. A stopped run goes on where it was
when the command is given again. Exit codes: 0 all done, 1 refused or not finished, 2 wrong usage,
130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent
PACK = "tverase_pack"
VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")


def main(words: list[str] | None = None) -> int:
    options, host_words = _parser().parse_known_args(words)
    tree = Path(options.comfyui or os.environ.get("COMFYUI_PATH", "")).expanduser().resolve()
    fault = _fault(tree, Path(options.list))
    if fault:
        sys.stderr.write(f"error: {fault}\n")
        return 1
    take_own_gpu()
    if "LOCAL_RANK" in os.environ and not options.cpu and not has_accelerator():
        number = os.environ["LOCAL_RANK"]
        sys.stderr.write(f"error: process {number} finds no GPU. Launch fewer, or add --cpu.\n")
        return 1
    start_host(tree, options.cpu, host_words)
    load_pack()
    run = importlib.import_module(f"{PACK}.nodes.concept_list.run")
    return int(run.command(options.list))


def take_own_gpu() -> None:
    """Show this process only the GPU of its number; torch must not have looked yet."""
    number = os.environ.get("LOCAL_RANK")
    if number is None:
        return
    for name in VISIBLE:
        shown = [gpu for gpu in os.environ.get(name, "").split(",") if gpu]
        os.environ[name] = shown[int(number) % len(shown)] if shown else number


def has_accelerator() -> bool:
    """Is there a device that ComfyUI computes on, other than the CPU?"""
    import torch

    backends = (torch.cuda, torch.backends.mps, getattr(torch, "xpu", None))
    return any(backend is not None and backend.is_available() for backend in backends)


def start_host(tree: Path, cpu: bool, words: list[str]) -> None:
    """Import ComfyUI as its main.py does, without server and other packs.

    words: of ComfyUI's own command line.
    """
    sys.path[:] = [str(tree), *(p for p in sys.path if Path(p or ".").resolve() != ROOT)]
    sys.argv = [str(tree / "main.py"), *words]
    import comfy.options

    comfy.options.enable_args_parsing()
    from comfy.cli_args import args

    args.cpu = args.cpu or cpu or not has_accelerator()
    args.disable_api_nodes = True
    import folder_paths
    import utils.extra_config  # before `nodes`, which lets comfy/utils.py hide this package

    tables = [str(tree / "extra_model_paths.yaml")]
    for given in args.extra_model_paths_config or []:
        tables += given
    for table in filter(os.path.isfile, tables):
        utils.extra_config.load_extra_path_config(table)
    for kind in ("input", "output", "temp"):
        folder = getattr(args, f"{kind}_directory", None)
        if folder:
            getattr(folder_paths, f"set_{kind}_directory")(os.path.abspath(folder))
    import nodes  # noqa: F401


def load_pack() -> ModuleType:
    """Import this folder by its place, as ComfyUI imports packs, whatever its name."""
    spec = importlib.util.spec_from_file_location(
        PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACK] = module
    spec.loader.exec_module(module)
    return module


def _fault(tree: Path, given: Path) -> str:
    if not (tree / "comfy" / "cli_args.py").is_file():
        return (
            f"no ComfyUI at {tree}. Name its folder, the one with main.py, with --comfyui or the "
            "variable COMFYUI_PATH."
        )
    if not given.is_file():
        return f"there is no file {given}"
    return ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="erase_list.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Other options go to ComfyUI, such as --lowvram or --base-directory FOLDER.",
        allow_abbrev=False,
    )
    parser.add_argument("list", help="a YAML file")
    parser.add_argument("--comfyui", help="folder of ComfyUI; else the variable COMFYUI_PATH")
    parser.add_argument("--cpu", action="store_true", help="use no GPU")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command goes on from here\n")
        sys.exit(130)
