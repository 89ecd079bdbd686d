#!/usr/bin/env bash
# Versions: comfy-kitchen 0.2.40, torch 2.13.0.
# Input:    a ramp from -m to m as float16, bfloat16 and float32, put into the scaled fp8 layout on
#           the CPU, for m = 0.007 and m = 0.006. float16 holds both ramps well.
# Expected: a scaled format keeps its relative error, about 2.6 per cent, whatever m is.
# Seen:     at m = 0.006 in float16 only two values are left, -m and m: the inverse of the scale
#           (448 / m) is rounded to float16, where it is infinite from 65520 on. Each weight takes
#           the largest magnitude with its own sign, without a NaN or an error.
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


def levels(largest, dtype):
    ramp = (torch.linspace(-1, 1, 4096).reshape(64, 64) * largest).half().to(dtype)
    back = QuantizedTensor.from_float(ramp, "TensorCoreFP8Layout").dequantize()
    error = float((back.float() - ramp.float()).norm() / ramp.float().norm())
    print(f"largest {largest}, {dtype}: {back.unique().numel()} values, error {error:.3f}")
    return back.unique().numel()


for dtype in (torch.float32, torch.bfloat16):
    assert levels(0.007, dtype) > 100 and levels(0.006, dtype) > 100
assert levels(0.007, torch.float16) > 100
assert levels(0.006, torch.float16) == 2, "comfy-kitchen changed"
PY
