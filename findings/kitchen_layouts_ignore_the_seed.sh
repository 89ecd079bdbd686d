#!/usr/bin/env bash
# Versions: comfy-kitchen 0.2.40, torch 2.13.0.
# Input:    one weight, rounded with stochastic_rounding seeds 1 to 64, in four layouts.
# Expected: two seeds round differently and the mean over seeds comes near the weight, in every
#           layout that takes the option.
# Seen:     only int8 rounds by the seed. fp8, mxfp8 and nvfp4 take the option and round to nearest
#           for every seed, so an edit below half a step is lost there and the mean is no nearer.
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

torch.manual_seed(0)
weight = torch.randn(64, 64)
stochastic = {}
for layout in (
    "TensorWiseINT8Layout", "TensorCoreFP8Layout", "TensorCoreMXFP8Layout", "TensorCoreNVFP4Layout"
):
    rounded = [
        QuantizedTensor.from_float(weight, layout, stochastic_rounding=seed).dequantize()
        for seed in range(1, 65)
    ]
    nearest = QuantizedTensor.from_float(weight, layout).dequantize()
    one = float((nearest - weight).abs().mean())
    many = float((sum(rounded) / len(rounded) - weight).abs().mean())
    stochastic[layout] = not all(torch.equal(r, nearest) for r in rounded)
    print(f"{layout}: error of nearest {one:.4f}, of the mean over seeds {many:.4f}")
assert stochastic == {
    "TensorWiseINT8Layout": True,
    "TensorCoreFP8Layout": False,
    "TensorCoreMXFP8Layout": False,
    "TensorCoreNVFP4Layout": False,
}, "comfy-kitchen changed"
PY
