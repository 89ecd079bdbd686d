#!/usr/bin/env bash
# Versions: peft 0.21.2, lycoris-lora 4.1.3, torch 2.13.0.
# Input:    the same two full Kronecker factors (a layer too small for rank 32 to factorise), rank
#           32 and alpha 8, in both libraries' LoKr.
# Expected: one change of the weight: PEFT's LoKr is a port of the one in LyCORIS.
# Seen:     PEFT multiplies by alpha / rank = 0.25. LyCORIS drops alpha as soon as both factors are
#           full, multiplies by 1, and writes alpha 32 for the 8 it was given.
set -euo pipefail
room="$(mktemp -d)"
trap 'rm -rf "$room"' EXIT
cd "$room"
export TMPDIR="$room" HF_HUB_OFFLINE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv venv
venv/bin/pip install --quiet --no-compile torch==2.13.0 peft==0.21.2 transformers==5.24.0 accelerate==1.15.0 lycoris-lora==4.1.3
venv/bin/python - <<'PY'
import torch
from lycoris.modules.lokr import LokrModule
from peft import LoKrConfig, get_peft_model

torch.manual_seed(0)
model = get_peft_model(
    torch.nn.Sequential(torch.nn.Linear(8, 8)),
    LoKrConfig(r=32, alpha=8, target_modules=["0"], init_weights=False),
)
in_peft = model.base_model.model[0]
first, second = in_peft.lokr_w1["default"].data, in_peft.lokr_w2["default"].data
plain = torch.kron(first, second)

in_lycoris = LokrModule("layer", torch.nn.Linear(8, 8), lora_dim=32, alpha=8)
in_lycoris.lokr_w1.data.copy_(first)
in_lycoris.lokr_w2.data.copy_(second)


def factor(change):
    return round(float((change / plain).mean()), 4)


with torch.no_grad():
    seen = (
        factor(in_peft.get_delta_weight("default")),
        factor(in_lycoris.get_diff_weight()[0]),
        float(in_lycoris.custom_state_dict()["alpha"]),
    )
print("factor in PEFT, factor in LyCORIS, alpha that LyCORIS writes:", seen)
assert seen == (0.25, 1.0, 32.0), "peft or lycoris changed"
PY
