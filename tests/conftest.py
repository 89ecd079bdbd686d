"""Fixtures for all tests. ComfyUI stays unimported until a test asks for it.

The repository goes to the END of sys.path: ahead, its `nodes` package would hide ComfyUI's.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read once, when torch is imported

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:] = [p for p in sys.path if p and Path(p).resolve() not in (ROOT, HERE)]
sys.path += [str(ROOT), str(HERE)]

import pytest  # noqa: E402
import torch  # noqa: E402

from devtools import in_process  # noqa: E402
from host_support.client import Client  # noqa: E402
from host_support.tiny_core import TinyDenoiser, TinyTextEncoder  # noqa: E402

torch.set_num_threads(1)
HOST_FIXTURES = {
    "comfy_host",
    "pack",
    "tiny_model",
    "make_tiny_model",
    "tiny_clip",
    "tiny_checkpoint",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever uses a host fixture is a host test; tests with a server come last."""
    for item in items:
        names = set(getattr(item, "fixturenames", ()))
        if names & HOST_FIXTURES:
            item.add_marker("host")
        if "server" in names:
            item.add_marker("http")
    items.sort(key=lambda item: item.get_closest_marker("http") is not None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("training"):
        tree = _tree_or_skip()
        in_process.import_host(tree)
        if not in_process.can_train():
            pytest.skip("this ComfyUI cannot be trained through (0.3.41 or newer can)")
    if item.get_closest_marker("injections"):
        in_process.import_host(_tree_or_skip())
        from comfy.model_patcher import ModelPatcher

        if not hasattr(ModelPatcher, "set_injections"):
            pytest.skip("this ComfyUI has no injections (0.3.7 or newer has)")


def _tree_or_skip() -> Path:
    tree = in_process.host_tree()
    if not (tree / "main.py").exists():
        pytest.skip(f"no ComfyUI at {tree}: `python dev.py setup` brings one")
    return tree


@pytest.fixture(scope="session")
def comfy_host(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """ComfyUI in this process: `.tree`, `.comfy`, `.nodes`, `.folder_paths`, own folders."""
    host = in_process.import_host(_tree_or_skip())
    base = tmp_path_factory.mktemp("comfyui")
    paths = host.folder_paths
    for kind in ("input", "output", "temp"):
        (base / kind).mkdir()
        getattr(paths, f"set_{kind}_directory")(str(base / kind))
    for kind in ("checkpoints", "loras", "embeddings"):
        (base / "models" / kind).mkdir(parents=True)
        extensions = paths.folder_names_and_paths[kind][1]
        paths.folder_names_and_paths[kind] = ([str(base / "models" / kind)], extensions)
    host.base = base
    return host


@pytest.fixture(scope="session")
def pack(comfy_host: Any) -> Any:
    """This repository, imported the way ComfyUI imports a pack."""
    return in_process.load_pack()


@pytest.fixture
def make_tiny_model(comfy_host: Any) -> Callable[..., Any]:
    """`build_model(storage, compute, prediction, seed)` of host_support.tiny_host."""
    from host_support import tiny_host

    return tiny_host.build_model


@pytest.fixture(params=["fp16 stored, fp32 computed", "fp32 throughout"])
def tiny_model(request: pytest.FixtureRequest, make_tiny_model: Callable[..., Any]) -> Any:
    """A MODEL of 1.06 M parameters; a test that uses it runs once for each storage."""
    half = request.param.startswith("fp16")
    return make_tiny_model(storage=torch.float16 if half else torch.float32)


@pytest.fixture(scope="session")
def tiny_clip(comfy_host: Any) -> Any:
    """A CLIP of width 32; do not change it."""
    from host_support import tiny_host

    return tiny_host.build_clip()


@pytest.fixture(scope="session")
def tiny_checkpoint(comfy_host: Any) -> Path:
    """A checkpoint file that Load Checkpoint opens, in this process and in `server`."""
    from host_support import tiny_host

    tiny_host.register()
    path = comfy_host.base / "models" / "checkpoints" / "tiny.safetensors"
    tiny_host.save_checkpoint(path)
    return path


@pytest.fixture(scope="session")
def server(tiny_checkpoint: Path) -> Iterator[Client]:
    """A real ComfyUI server with this pack and `tiny.safetensors`; one for all tests."""
    from devtools.hosts import Host
    from devtools.server import Server

    tree = _tree_or_skip()
    python = Path(os.environ.get("COMFYUI_PYTHON") or sys.executable)
    assets = os.environ.get("PYTHONPATH")
    host = Host(tree.name, tree, Path(assets) if assets else None)
    extra = {"tverase_tiny_sd": HERE / "host_support" / "tiny_pack"}
    running = Server(host, python, threads=1, extra_packs=extra)
    checkpoints = running.base / "models" / "checkpoints"
    checkpoints.mkdir(parents=True)
    shutil.copy(tiny_checkpoint, checkpoints)
    try:
        with running:
            yield Client(running.url, running.base)
    finally:
        shutil.rmtree(running.base, ignore_errors=True)


@pytest.fixture
def tiny_denoiser() -> TinyDenoiser:
    """ports.Denoiser without a host."""
    return TinyDenoiser()


@pytest.fixture(params=["one tower", "two towers"])
def tiny_text_encoder(request: pytest.FixtureRequest) -> TinyTextEncoder:
    """ports.TextEncoder without a host; a test that uses it runs once for each kind."""
    return TinyTextEncoder({"l": 12} if request.param == "one tower" else {"l": 8, "g": 4})
