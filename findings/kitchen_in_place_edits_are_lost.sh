#!/usr/bin/env bash
# Versions: comfy-kitchen 0.2.40, torch 2.13.0.
# Input:    in-place edits of a quantised weight: mul_, add_, clamp_, zero_, an element, and
#           torch.nn.init.zeros_.
# Expected: the weight changes, or the edit raises, as copy_ from a plain tensor does.
# Seen:     each call returns as if it had worked and changes nothing: the operation runs on a
#           dequantised copy that is thrown away.
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

edits = {
    "mul_": lambda weight: weight.mul_(0.5),
    "add_": lambda weight: weight.add_(1.0),
    "clamp_": lambda weight: weight.clamp_(-0.1, 0.1),
    "zero_": lambda weight: weight.zero_(),
    "element": lambda weight: weight.__setitem__(0, 5.0),
    "init.zeros_": torch.nn.init.zeros_,
}
layouts = (
    "TensorWiseINT8Layout", "TensorCoreFP8Layout", "TensorCoreMXFP8Layout", "TensorCoreNVFP4Layout"
)
torch.manual_seed(0)
changed = []
for layout in layouts:
    for name, edit in edits.items():
        weight = QuantizedTensor.from_float(torch.randn(64, 64), layout)
        before = weight.dequantize().clone()
        edit(weight)
        if not torch.equal(weight.dequantize(), before):
            changed.append((layout, name))
print(f"{len(layouts) * len(edits)} edits, of which changed the weight: {changed}")
assert not changed, "comfy-kitchen changed"

weight = QuantizedTensor.from_float(torch.randn(64, 64), layouts[0])
try:
    weight.copy_(torch.zeros(64, 64))
except TypeError as error:
    print("copy_:", error)
else:
    raise SystemExit("comfy-kitchen changed: copy_ no longer raises")
PY
