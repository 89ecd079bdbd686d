#!/usr/bin/env bash
# Versions: comfy-kitchen 0.2.40, torch 2.13.0.
# Input:    a weight of zeros, as a zero-initialised output layer has it, on the CPU.
# Expected: zeros again: every one of these formats has a zero.
# Seen:     int8 and mxfp8 give zeros. fp8 and nvfp4 take the largest value, 0, as their scale,
#           divide by it, and give NaN for the whole weight; so does the layer that holds it.
set -euo pipefail
room="$(mktemp -d)"
trap 'rm -rf "$room"' EXIT
cd "$room"
export TMPDIR="$room" HF_HUB_OFFLINE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv venv
venv/bin/pip install --quiet --no-compile torch==2.13.0 comfy-kitchen==0.2.40 packaging==26.4
venv/bin/python - <<'PY'
import torch
from comfy_kitchen.tensor import QuantizedTensor

seen = {}
for layout in (
    "TensorWiseINT8Layout", "TensorCoreMXFP8Layout", "TensorCoreFP8Layout", "TensorCoreNVFP4Layout"
):
    weight = QuantizedTensor.from_float(torch.zeros(32, 32), layout)
    output = torch.nn.functional.linear(torch.ones(1, 32), weight)
    back = weight.dequantize()
    assert bool(back.isnan().all()) == bool(output.isnan().all())
    seen[layout] = "NaN" if back.isnan().all() else "0" if (back == 0).all() else "other"
print(seen)
assert seen == {
    "TensorWiseINT8Layout": "0",
    "TensorCoreMXFP8Layout": "0",
    "TensorCoreFP8Layout": "NaN",
    "TensorCoreNVFP4Layout": "NaN",
}, "comfy-kitchen changed"
PY
