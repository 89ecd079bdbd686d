#!/usr/bin/env bash
# Versions: lycoris-lora 4.1.3, torch 2.13.0.
# Input:    DyLoRA networks at their full rank (4, 8, 16; alpha = rank, blocks of 4), and the files
#           that they write, which are plain LoRA files.
# Expected: the file changes the weight as much as the trained network did at full rank.
# Seen:     a quarter of it, at every rank. In training alpha is divided by the number of blocks; a
#           reader of the file divides it by the rank, which is four times that number.
set -euo pipefail
room="$(mktemp -d)"
trap 'rm -rf "$room"' EXIT
cd "$room"
export TMPDIR="$room" HF_HUB_OFFLINE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv venv
venv/bin/pip install --quiet --no-compile torch==2.13.0 lycoris-lora==4.1.3
venv/bin/python - <<'PY'
import torch
from lycoris.modules.dylora import DyLoraModule
from lycoris.modules.locon import LoConModule


def ratio(rank):
    torch.manual_seed(0)
    layer = torch.nn.Linear(32, 32)
    trained = DyLoraModule("layer", layer, lora_dim=rank, alpha=rank, block_size=4)
    for factor in trained.parameters():
        torch.nn.init.normal_(factor)
    full = trained.get_diff_weight(rank=rank - 4)[0]  # counts from the last block that it trains
    file = trained.custom_state_dict()
    up, down, alpha = file["lora_up.weight"], file["lora_down.weight"], file["alpha"]
    read = LoConModule("layer", layer, lora_dim=rank, alpha=float(alpha))
    read.lora_up.weight.data.copy_(up)
    read.lora_down.weight.data.copy_(down)
    loaded = read.get_diff_weight()[0]
    assert torch.allclose(full / full.norm(), loaded / loaded.norm(), atol=1e-5)
    return round(float(loaded.norm() / full.norm()), 4)


with torch.no_grad():
    seen = {rank: ratio(rank) for rank in (4, 8, 16)}
print("change by the file / change by the trained network:", seen)
assert seen == {4: 0.25, 8: 0.25, 16: 0.25}, "lycoris changed"
PY
