"""Lets torchvision be imported beside a CPU-only torch.

The Linux wheel of torchvision on the package index brings a library that wants CUDA. Without it
only the schemas of two operators are missed, and ComfyUI calls neither. Where the library loads
this file changes nothing. It is copied into `.venv/` and runs at every start of that Python.
"""

import glob
import importlib.abc
import importlib.machinery
import os
import sys


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "torchvision":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec and spec.submodule_search_locations:
            _declare_missing(spec.submodule_search_locations[0])
        return spec


def _declare_missing(folder):
    import torch

    try:
        for library in glob.glob(os.path.join(folder, "_C.*")):
            torch.ops.load_library(library)
    except OSError:
        fragment = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            fragment.define(
                operator + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
        sys._torchvision_cpu_shim = fragment  # freed schemas would vanish again


sys.meta_path.insert(0, _Finder())
