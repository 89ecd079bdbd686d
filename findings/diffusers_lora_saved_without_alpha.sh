#!/usr/bin/env bash
# Versions: diffusers 0.42.1, peft 0.21.2, torch 2.13.0.
# Input:    a UNet LoRA of rank 4 with lora_alpha 16, so every factor pair counts four times. It is
#           saved with save_lora_weights, whose metadata argument is optional, and loaded again.
# Expected: the loaded LoRA counts four times as well, or a warning says that alpha is unknown.
# Seen:     it counts once: the file holds no alpha, the loader takes alpha = rank, and nobody says
#           so. The LoRA acts a quarter as strongly as it did when it was trained.
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
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig, get_peft_model_state_dict

said = []
listener = logging.Handler(logging.WARNING)
listener.emit = lambda record: said.append(record.getMessage())
logging.getLogger("diffusers").addHandler(listener)


def unet():
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(8,), layers_per_block=1, norm_num_groups=4,
        cross_attention_dim=8, attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",),
    )


def factors(model):
    return {m.scaling[name] for m in model.modules() for name in getattr(m, "scaling", ())}


trained = unet()
trained.add_adapter(
    LoraConfig(r=4, lora_alpha=16, target_modules=["to_q"], init_lora_weights=False)
)
said.clear()
StableDiffusionPipeline.save_lora_weights(
    "lora", unet_lora_layers=get_peft_model_state_dict(trained)
)
loaded = unet()
state, alphas = StableDiffusionPipeline.lora_state_dict("lora")
StableDiffusionPipeline.load_lora_into_unet(state, network_alphas=alphas, unet=loaded)
print("factor trained:", factors(trained), "loaded:", factors(loaded), "warnings:", said)
assert factors(trained) == {4.0}
assert factors(loaded) == {1.0} and not said, "diffusers changed"
PY
