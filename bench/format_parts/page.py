"""The page docs/compatibility.md, from what was tried."""

from __future__ import annotations

from collections.abc import Sequence

from bench.format_parts.read import Result

HEAD = """# Compatibility: which files are read

*Extract from Files* and `python -m tverase_core extract` take a base and a tuned model, or a base
and a LoRA. `python dev.py bench formats` writes this page: each tool below made a file on a tiny
model of SD 1.5's or SDXL's structure and merged it by its own code, the pack read the file, and the
two differences were compared weight by weight. *Exact*: equal within 1e-5 of the weight's
difference, beside what merging in float32 rounds away. *Refused*: nothing is written, and the
sentence names a way, which was followed and gave the exact difference.

| file | made by | outcome | what to do |
|---|---|---|---|
"""
TAIL = """
## What decides alpha

1. An `.alpha` tensor of the module.
2. The header that diffusers writes when it is given the adapter's settings
   (`lora_adapter_metadata`), else PEFT's `adapter_config.json` beside `adapter_model.safetensors`.
   Both may state alpha and rank by module, and rank-stabilised scaling.
3. Else the factor is 1, and the report says so. A PEFT file that was copied without its
   configuration is such a file: keep the two together.

## What is not tried here

- The scripts of kohya (sd-scripts) and OneTrainer are on no package index. Files under kohya's
  names above were written by LyCORIS' entry for sd-scripts and by diffusers' conversion.
- UCE's and ESD's scripts are on none either: their saving step was done on weights that were moved
  as theirs are.
- Attention processors as diffusers saved them before 0.26 (`processor.to_q_lora`): the names are
  read, but no tool of today writes them.
- Text encoders: their tensors are left out and counted; the report says when they were trained too.
- Diffusion transformers: checkpoints under ComfyUI's names are read; no LoRA of one was tried.
"""


def page(results: Sequence[Result]) -> str:
    rows = []
    for result in sorted(results, key=lambda each: (each.case.tool, each.case.name)):
        words = result.way or "nothing"
        rows.append(f"| {result.case.name} | {result.case.tool} | {result.outcome} | {words} |")
    return HEAD + "\n".join(rows) + "\n" + TAIL
