"""A test-only node pack: teaches a ComfyUI server the shape of our tiny checkpoint."""

import importlib.util
from pathlib import Path

# Through the link in custom_nodes back to the real folder, whose name ComfyUI does not know.
_source = Path(__file__).resolve().parent.parent / "tiny_host.py"
_spec = importlib.util.spec_from_file_location("tverase_tiny_host", _source)
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
_module.register()

NODE_CLASS_MAPPINGS = {}
