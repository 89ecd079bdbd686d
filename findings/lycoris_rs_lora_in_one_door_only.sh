#!/usr/bin/env bash
# Versions: lycoris-lora 4.1.3, torch 2.13.0.
# Input:    rs_lora=True (alpha / sqrt(rank)), rank 16 and alpha 4, given to a LoRA module and to
#           create_lycoris, which builds such modules and takes any option.
# Expected: factor 4 / sqrt(16) = 1 from both, or an error for an option that has no effect.
# Seen:     the module takes it; create_lycoris swallows it and trains at 4 / 16 = 0.25. An option
#           that does not exist is swallowed as quietly.
set -euo pipefail
room="$(mktemp -d)"
trap 'rm -rf "$room"' EXIT
cd "$room"
export TMPDIR="$room" HF_HUB_OFFLINE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv venv
venv/bin/pip install --quiet --no-compile torch==2.13.0 lycoris-lora==4.1.3
venv/bin/python - <<'PY'
import torch
from lycoris import LycorisNetwork, create_lycoris
from lycoris.modules.locon import LoConModule

LycorisNetwork.apply_preset({"target_module": ["Linear"]})


def factor(**options):
    model = torch.nn.Sequential(torch.nn.Linear(32, 32))
    network = create_lycoris(
        model, 1.0, linear_dim=16, linear_alpha=4.0, algo="lora", **options
    )
    return float(network.loras[0].scale)


module = LoConModule("layer", torch.nn.Linear(32, 32), lora_dim=16, alpha=4.0, rs_lora=True)
seen = (float(module.scale), factor(rs_lora=True), factor(no_such_option=True))
print("module, create_lycoris, create_lycoris with an unknown option:", seen)
assert seen == (1.0, 0.25, 0.25), "lycoris changed"
PY
