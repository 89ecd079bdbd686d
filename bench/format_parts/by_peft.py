"""Files of PEFT: a folder with adapter_config.json, merged by merge_and_unload."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import torch

from bench.format_parts.case import Case, difference, note
from bench.format_parts.tiny_unet import randomise, unet, weights

TOOL = f"PEFT {peft.__version__}"
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
PLAIN: dict[str, Any] = {"r": 4, "lora_alpha": 16, "target_modules": ATTENTION}
# Every line of a config that changes what a file means: name, family, settings.
CONFIGS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("PEFT LoRA, alpha 16 of rank 4", "sd15", PLAIN),
    ("PEFT LoRA, rank-stabilised", "sd15", {**PLAIN, "r": 8, "lora_alpha": 32, "use_rslora": True}),
    (
        "PEFT LoRA, rank_pattern and alpha_pattern",
        "sd15",
        {
            **PLAIN,
            "rank_pattern": {"attn2.to_k": 2, r"down_blocks\.1\..*to_v": 3},
            "alpha_pattern": {"attn2.to_k": 8, "to_q": 1},
            "use_rslora": False,
        },
    ),
    (
        "PEFT LoRA on convolutions",
        "sd15",
        {**PLAIN, "target_modules": ["conv1", "proj_in", "to_q"]},
    ),
    ("PEFT LoRA on SDXL", "sdxl", PLAIN),
    ("PEFT DoRA", "sd15", {**PLAIN, "use_dora": True}),
    (
        "PEFT LoRA with lora_bias",
        "sd15",
        {**PLAIN, "lora_bias": True, "target_modules": ["to_out.0"]},
    ),
    ("PEFT LoRA with bias='all'", "sd15", {**PLAIN, "bias": "all"}),
    ("PEFT LoRA, modules_to_save", "sd15", {**PLAIN, "modules_to_save": ["conv_out"]}),
    ("PEFT LoRA, PiSSA start", "sd15", {**PLAIN, "init_lora_weights": "pissa"}),
    ("PEFT LoRA, OLoRA start", "sd15", {**PLAIN, "init_lora_weights": "olora"}),
)
OTHERS = (
    ("PEFT LoHa", peft.LoHaConfig(r=4, alpha=8, target_modules=ATTENTION)),
    ("PEFT LoKr", peft.LoKrConfig(r=4, alpha=8, target_modules=ATTENTION)),
    ("PEFT (IA)^3", peft.IA3Config(target_modules=ATTENTION, feedforward_modules=[])),
    ("PEFT OFT", peft.OFTConfig(r=0, oft_block_size=4, target_modules=ATTENTION)),
)


def make(work: Path) -> None:
    for number, (name, family, words) in enumerate(CONFIGS):
        _one(work, f"peft{number}", name, family, peft.LoraConfig(**words))
    for number, (name, config) in enumerate(OTHERS):
        _one(work, f"peft_other{number}", name, "sd15", config)


def _one(work: Path, place: str, name: str, family: str, config: Any) -> None:
    base = weights(unet(family))
    tuned = peft.get_peft_model(unet(family), config)
    trained = [p for p in tuned.parameters() if p.requires_grad]
    if "start" in name:  # these begin away from zero; move a little, as training does
        with torch.no_grad():
            for parameter in trained:
                parameter += 0.1 * torch.randn_like(parameter)
    else:
        randomise(trained)
    tuned.save_pretrained(work / place)
    fresh = peft.PeftModel.from_pretrained(unet(family), work / place)
    merged = fresh.merge_and_unload()
    merged.save_pretrained(work / f"{place}_merged")
    case = Case(
        name=name,
        tool=TOOL,
        base=f"{family}.safetensors",
        tuned=f"{place}/adapter_model.safetensors",
        expected=f"{place}.expected.safetensors",
        merged=f"{place}_merged",
    )
    note(work, case, difference(weights(merged), base))
