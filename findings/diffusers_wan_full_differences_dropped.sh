#!/usr/bin/env bash
# Versions: diffusers 0.42.1, peft 0.21.2, torch 2.13.0.
# Input:    a Wan file as LoRA extractors write it: factors for one matrix, full differences (.diff)
#           for another matrix and for a norm.
# Expected: the loader applies all three, refuses the file, or warns about what it leaves out.
# Seen:     the factors load and both differences are gone without a warning. The note about them is
#           logged at info (the matrix) and at debug (the norm), below what diffusers shows.
set -euo pipefail
room="$(mktemp -d)"
trap 'rm -rf "$room"' EXIT
cd "$room"
export TMPDIR="$room" HF_HUB_OFFLINE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv venv
venv/bin/pip install --quiet --no-compile torch==2.13.0 diffusers==0.42.1 peft==0.21.2 transformers==5.24.0 accelerate==1.15.0
venv/bin/python - <<'PY'
import logging

import torch
from diffusers import WanPipeline

said = []
listener = logging.Handler(logging.WARNING)
listener.emit = lambda record: said.append(record.getMessage())
logging.getLogger("diffusers").addHandler(listener)

block = "diffusion_model.blocks.0"
file = {
    f"{block}.self_attn.q.lora_down.weight": torch.randn(2, 24),
    f"{block}.self_attn.q.lora_up.weight": torch.randn(24, 2),
    f"{block}.cross_attn.q.diff": torch.randn(24, 24),
    f"{block}.norm3.diff": torch.randn(24),
}
loaded = WanPipeline.lora_state_dict(file)
print("loaded:", *loaded, sep="\n  ")
print("warnings:", said)
assert sorted(loaded) == [
    "transformer.blocks.0.attn1.to_q.lora_A.weight",
    "transformer.blocks.0.attn1.to_q.lora_B.weight",
], "diffusers changed"
assert not said, "diffusers changed"
PY
