"""ComfyUI loads the pack through this file; outside ComfyUI it does nothing."""

from importlib.util import find_spec

if __package__ and find_spec("folder_paths") is not None and find_spec("comfy") is not None:
    from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS, WEB_DIRECTORY

    __all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]
