"""A test-only node pack: teaches a ComfyUI server the shapes of our tiny checkpoints, and takes its
network away."""

import importlib
import importlib.util
import sys
from pathlib import Path

# Through the link in custom_nodes back to the real folder, whose name ComfyUI does not know.
_FOLDER = Path(__file__).resolve().parent.parent


def _module(name):
    spec = importlib.util.spec_from_file_location(f"tverase_{name}", _FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


print(_module("no_network").SAID)
_module("tiny_host").register()
# At the end: ahead, the pack's `nodes` would hide ComfyUI's.
sys.path += [str(_FOLDER.parent), str(_FOLDER.parent.parent)]
importlib.import_module("host_support.stand_ins").register()

NODE_CLASS_MAPPINGS = {}
