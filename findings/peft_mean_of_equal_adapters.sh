#!/usr/bin/env bash
# Versions: peft 0.21.2, torch 2.13.0.
# Input:    n equal LoRA adapters, joined by add_weighted_adapter with weights 1/n.
# Expected: the mean of equal adapters is that adapter, for every combination type (densities at 1,
#           so nothing is pruned).
# Seen:     "cat" gives the adapter. "linear" and "dare_linear" give n times its change: they sum A
#           and B apart, each at sqrt(1/n), and the product of the sums has n * n terms at 1/n.
set -euo pipefail
room="$(mktemp -d)"
trap 'rm -rf "$room"' EXIT
cd "$room"
export TMPDIR="$room" HF_HUB_OFFLINE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv venv
venv/bin/pip install --quiet --no-compile torch==2.13.0 peft==0.21.2 transformers==5.24.0 accelerate==1.15.0
venv/bin/python - <<'PY'
import warnings

import torch
from peft import LoraConfig, get_peft_model

warnings.simplefilter("ignore")


def ratio(kind, n):
    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules=["0"], init_lora_weights=False)
    model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(8, 8)), config, "copy0")
    layer = model.base_model.model[0]
    names = [f"copy{i}" for i in range(n)]
    for name in names[1:]:
        model.add_adapter(name, config)
        for factor in (layer.lora_A, layer.lora_B):
            factor[name].load_state_dict(factor["copy0"].state_dict())
    density = {} if kind in ("linear", "cat") else {"density": 1.0}
    model.add_weighted_adapter(names, [1 / n] * n, "mean", combination_type=kind, **density)
    mean, one = layer.get_delta_weight("mean"), layer.get_delta_weight("copy0")
    return round(float(mean.norm() / one.norm()), 3)


with torch.no_grad():
    seen = {kind: [ratio(kind, n) for n in (2, 4)] for kind in ("cat", "linear", "dare_linear")}
print("change of the mean / change of the adapter, for n = 2 and 4:", seen)
assert seen == {
    "cat": [1.0, 1.0], "linear": [2.0, 4.0], "dare_linear": [2.0, 4.0]
}, "peft changed"
PY
