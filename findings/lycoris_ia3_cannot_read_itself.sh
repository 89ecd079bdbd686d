#!/usr/bin/env bash
# Versions: lycoris-lora 4.1.3, torch 2.13.0.
# Input:    the state dict of an (IA)^3 network that create_lycoris has just made.
# Expected: create_lycoris_from_weights reads it, as it does for plain LoRA, LoHa and LoKr.
# Seen:     TypeError. The file carries two tensors a module (weight, on_input); the reader of
#           (IA)^3 takes one. No file of such a network can be made into a network again.
set -euo pipefail
room="$(mktemp -d)"
trap 'rm -rf "$room"' EXIT
cd "$room"
export TMPDIR="$room" HF_HUB_OFFLINE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv venv
venv/bin/pip install --quiet --no-compile torch==2.13.0 lycoris-lora==4.1.3
venv/bin/python - <<'PY'
import torch
from lycoris import LycorisNetwork, create_lycoris, create_lycoris_from_weights

LycorisNetwork.apply_preset({"target_module": ["Linear"]})


def model():
    return torch.nn.Sequential(torch.nn.Linear(16, 16))


def read_back(algo):
    network = create_lycoris(model(), 1.0, linear_dim=4, linear_alpha=4.0, algo=algo)
    network.apply_to()
    try:
        create_lycoris_from_weights(1.0, None, model(), weights_sd=network.state_dict())
    except TypeError as error:
        return str(error)
    return "read"


seen = {algo: read_back(algo) for algo in ("lora", "loha", "lokr", "ia3")}
print(seen)
assert seen["lora"] == seen["loha"] == seen["lokr"] == "read"
assert "positional arguments" in seen["ia3"], "lycoris changed"
PY
