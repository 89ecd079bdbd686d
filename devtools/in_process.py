"""ComfyUI's code and this pack in one process, without a server."""

from __future__ import annotations

import asyncio
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

from .hosts import HOST, MAIN
from .install import ROOT

PACK_NAME = "tverase_pack"
DEFAULT_TREE = HOST / f"comfyui-{MAIN.name}"


def host_tree() -> Path:
    """The ComfyUI that COMFYUI_PATH names, else the one that `dev.py` brings; it need not exist."""
    return Path(os.environ.get("COMFYUI_PATH") or DEFAULT_TREE).expanduser().resolve()


def import_host(tree: Path, *, cpu: bool = True) -> SimpleNamespace:
    """Import ComfyUI; returns `tree`, `comfy`, `nodes`, `folder_paths`. cpu: even where a GPU is.

    ComfyUI reads no command line when it is used as a library, hence the direct settings. Its
    `nodes` module puts `comfy/` first on sys.path, where a `utils.py` would hide the `utils`
    package: that one has to be imported before.
    """
    tree = tree.resolve()
    if str(tree) not in sys.path:
        sys.path.insert(0, str(tree))
    from comfy.cli_args import args

    args.cpu = cpu
    args.use_pytorch_cross_attention = True
    args.disable_api_nodes = True
    with_extra = importlib.util.find_spec("utils.extra_config")
    if with_extra is not None:
        importlib.import_module("utils.extra_config")
    folder_paths = importlib.import_module("folder_paths")
    importlib.import_module("comfy.sd")
    nodes = importlib.import_module("nodes")
    if Path(nodes.__file__ or "").resolve().parent != tree:
        raise RuntimeError(f"`nodes` is {nodes.__file__}, not ComfyUI's: is the pack on sys.path?")
    comfy = importlib.import_module("comfy")
    return SimpleNamespace(tree=tree, comfy=comfy, nodes=nodes, folder_paths=folder_paths)


def load_stock_nodes(host: SimpleNamespace) -> None:
    """Add the stock nodes that shipped workflows use and `nodes.py` has not, as a server does."""

    async def load(path: str) -> None:
        loading = host.nodes.load_custom_node(path, module_parent="comfy_extras")
        if inspect.isawaitable(loading):  # in older versions it is none
            await loading

    for name in ("nodes_flux", "nodes_model_advanced", "nodes_sd3"):
        asyncio.run(load(str(host.tree / "comfy_extras" / f"{name}.py")))


def can_train() -> bool:
    """Can this ComfyUI's transformer blocks be back-propagated (0.3.41 and newer)?"""
    from comfy.ldm.modules.attention import BasicTransformerBlock

    return "x += n" not in inspect.getsource(BasicTransformerBlock)  # an addition in place


class _OneCore(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Answers `tverase_pack.tverase_core...` with the module `tverase_core...`."""

    def find_spec(
        self, name: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if f"{name}.".startswith(f"{PACK_NAME}.tverase_core."):
            return importlib.machinery.ModuleSpec(name, self)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = importlib.import_module(spec.name.removeprefix(f"{PACK_NAME}."))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state  # the import system put the alias's there


def load_pack() -> ModuleType:
    """Import this repository as ComfyUI does: by file, as a package of another name.

    ComfyUI's packs carry their own copy of the core. Here both names lead to one copy, so that
    callers can compare and catch the core's types. The repository must be at the END of sys.path.
    """
    if PACK_NAME in sys.modules:
        return sys.modules[PACK_NAME]
    sys.meta_path.insert(0, _OneCore())
    spec = importlib.util.spec_from_file_location(
        PACK_NAME, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACK_NAME] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[PACK_NAME]
        raise
    return module
