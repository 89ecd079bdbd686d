#!/usr/bin/env bash
# Versions: peft 0.21.2, torch 2.13.0.
# Input:    a LoRA with bias="all", saved right after it was made (its B is zero, it changes
#           nothing), then put on a fine-tune of the base whose bias differs.
# Expected: an untrained adapter changes nothing there either, and unload() gives the fine-tune
#           back: factors are differences, so the biases beside them should be, too.
# Seen:     the file holds whole biases of the first base. They replace the fine-tune's own, and
#           stay there after unload().
set -euo pipefail
room="$(mktemp -d)"
trap 'rm -rf "$room"' EXIT
cd "$room"
export TMPDIR="$room" HF_HUB_OFFLINE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv venv
venv/bin/pip install --quiet --no-compile torch==2.13.0 peft==0.21.2 transformers==5.24.0 accelerate==1.15.0
venv/bin/python - <<'PY'
import torch
from peft import LoraConfig, PeftModel, get_peft_model


def base(bias):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 8))
    torch.nn.init.constant_(model[0].bias, bias)
    return model


get_peft_model(
    base(1.0), LoraConfig(r=2, target_modules=["0"], bias="all")
).save_pretrained("adapter")
x = torch.ones(1, 8)
tuned = base(5.0)
with torch.no_grad():
    before = tuned(x)
    adapted = PeftModel.from_pretrained(tuned, "adapter")
    with_adapter = float((adapted(x) - before).abs().max())
    after_unload = float((adapted.unload()(x) - before).abs().max())
print("moved by the untrained adapter:", with_adapter, "left after unload():", after_unload)
assert abs(with_adapter - 4.0) < 1e-5 and abs(after_unload - 4.0) < 1e-5, "peft changed"
PY
