#!/usr/bin/env bash
# Versions: safetensors 0.8.0, torch 2.13.0.
# Input:    tensors of the block-scale type E8M0 and of packed fp4, as mxfp8 and nvfp4 files hold
#           them.
# Expected: load(save(x)) gives x wherever load_file(save_file(x)) does: the bytes are the same. The
#           other tensors of such a file load in any case.
# Seen:     save writes both types, load_file reads both, load of the same bytes raises KeyError on
#           the type's name, and with it loses the float32 tensor beside.
set -euo pipefail
room="$(mktemp -d)"
trap 'rm -rf "$room"' EXIT
cd "$room"
export TMPDIR="$room" HF_HUB_OFFLINE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv venv
venv/bin/pip install --quiet --no-compile torch==2.13.0 safetensors==0.8.0 numpy==2.4.6 packaging==26.4
venv/bin/python - <<'PY'
from pathlib import Path

import torch
from safetensors.torch import load, load_file, save, save_file

seen = {}
for dtype in (torch.float8_e4m3fn, torch.float8_e8m0fnu, torch.float4_e2m1fn_x2):
    tensors = {"scale": torch.arange(32, dtype=torch.uint8).view(dtype), "plain": torch.ones(2)}
    data = save(tensors)
    save_file(tensors, "file.safetensors")
    assert Path("file.safetensors").read_bytes() == data
    back = load_file("file.safetensors")["scale"]
    assert back.dtype == dtype
    assert torch.equal(back.view(torch.uint8), tensors["scale"].view(torch.uint8))
    try:
        seen[str(dtype)] = sorted(load(data))
    except KeyError as error:
        seen[str(dtype)] = f"KeyError {error}"
print(seen)
assert seen == {
    "torch.float8_e4m3fn": ["plain", "scale"],
    "torch.float8_e8m0fnu": "KeyError 'F8_E8M0'",
    "torch.float4_e2m1fn_x2": "KeyError 'F4'",
}, "safetensors changed"
PY
