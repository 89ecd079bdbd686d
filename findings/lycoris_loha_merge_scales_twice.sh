#!/usr/bin/env bash
# Versions: lycoris-lora 4.1.3, torch 2.13.0.
# Input:    a LoHa of rank 4 at alpha 1, 2, 4 and 8, once run beside its layer, once merged.
# Expected: both change the output by alpha / rank times the product of the factors.
# Seen:     the running network does. merge_to multiplies by alpha / rank twice, so a merged LoHa at
#           alpha 1 is four times too weak, at alpha 8 twice too strong; they agree only where
#           alpha = rank. LoRA and LoKr do not do this.
set -euo pipefail
room="$(mktemp -d)"
trap 'rm -rf "$room"' EXIT
cd "$room"
export TMPDIR="$room" HF_HUB_OFFLINE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv venv
venv/bin/pip install --quiet --no-compile torch==2.13.0 lycoris-lora==4.1.3
venv/bin/python - <<'PY'
import torch
from lycoris.modules.loha import LohaModule


def change(alpha, merged):
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(16, 16), torch.randn(3, 16)
    before = layer(x)
    module = LohaModule("layer", layer, lora_dim=4, alpha=alpha)
    for factor in module.parameters():
        torch.nn.init.normal_(factor)
    plain = (module.hada_w1_a @ module.hada_w1_b) * (module.hada_w2_a @ module.hada_w2_b)
    module.merge_to() if merged else module.apply_to()
    return round(float(((layer(x) - before) / (x @ plain.T)).median()), 3)


alphas = (1, 2, 4, 8)
with torch.no_grad():
    running = [change(alpha, merged=False) for alpha in alphas]
    merged = [change(alpha, merged=True) for alpha in alphas]
print("alpha / rank:", [alpha / 4 for alpha in alphas], "running:", running, "merged:", merged)
assert running == [0.25, 0.5, 1.0, 2.0]
assert merged == [0.062, 0.25, 1.0, 4.0], "lycoris changed"
PY
