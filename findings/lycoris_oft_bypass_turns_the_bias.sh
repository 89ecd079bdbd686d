#!/usr/bin/env bash
# Versions: lycoris-lora 4.1.3, torch 2.13.0.
# Input:    the same orthogonal blocks (Diag-OFT and BOFT) on a linear layer, with bypass_mode off
#           and on.
# Expected: bypass_mode is another way to compute the same layer, as it is for LoRA.
# Seen:     so it is without a bias. With one, the bypass turns the whole output, bias included,
#           while the merged weight leaves the bias alone: outputs differ by a large part of the
#           bias, and a network trained with bypass changes when it is merged.
set -euo pipefail
room="$(mktemp -d)"
trap 'rm -rf "$room"' EXIT
cd "$room"
export TMPDIR="$room" HF_HUB_OFFLINE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv venv
venv/bin/pip install --quiet --no-compile torch==2.13.0 lycoris-lora==4.1.3
venv/bin/python - <<'PY'
import torch
from lycoris.modules.boft import ButterflyOFTModule
from lycoris.modules.diag_oft import DiagOFTModule


def gap(kind, bias):
    outputs = []
    for bypass in (False, True):
        torch.manual_seed(0)
        layer, x = torch.nn.Linear(16, 16, bias=bias), torch.randn(3, 16)
        module = kind("layer", layer, lora_dim=4, alpha=0, bypass_mode=bypass)
        torch.nn.init.normal_(module.oft_blocks, std=0.3)
        module.apply_to()
        outputs.append(layer(x))
    largest = float(layer.bias.abs().max()) if bias else 1.0
    return float((outputs[0] - outputs[1]).abs().max()) / largest


with torch.no_grad():
    for kind in (DiagOFTModule, ButterflyOFTModule):
        without, with_bias = gap(kind, bias=False), gap(kind, bias=True)
        print(f"{kind.__name__}: without bias {without:.1e}, with bias {with_bias:.2f} of the bias")
        assert without < 1e-5
        assert with_bias > 0.3, "lycoris changed"
PY
