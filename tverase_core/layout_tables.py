"""Where the weights of known models sit: patterns of names, nothing else.

Block names IN, M, OUT are the ones that users of block-weight merging know; TIME, FINAL and the
TE_ names are our own.
"""

from __future__ import annotations

import re

KINDS = ("self_attn", "cross_attn", "ff", "conv", "norm", "proj", "embed", "other")

# (pattern of the whole name, block name; {0} is the block's number).
UNET_BLOCKS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"diffusion_model\.input_blocks\.(\d+)\.(.+)"), "IN{0:02d}"),
    (re.compile(r"diffusion_model\.()middle_block\.(.+)"), "M00"),
    (re.compile(r"diffusion_model\.output_blocks\.(\d+)\.(.+)"), "OUT{0:02d}"),
    (re.compile(r"diffusion_model\.()((?:time_embed|label_emb)\..+)"), "TIME"),
    (re.compile(r"diffusion_model\.()(out\..+)"), "FINAL"),
)

# (pattern of what follows the block, kind). Normalisation is "norm" wherever it sits.
UNET_KINDS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\d+\.transformer_blocks\.\d+\.attn1\..+"), "self_attn"),
    (re.compile(r"\d+\.transformer_blocks\.\d+\.attn2\..+"), "cross_attn"),
    (re.compile(r"\d+\.transformer_blocks\.\d+\.ff\..+"), "ff"),
    (re.compile(r"\d+\.transformer_blocks\.\d+\.norm\d\..+"), "norm"),
    (re.compile(r"\d+\.norm\..+"), "norm"),
    (re.compile(r"\d+\.proj_(?:in|out)\..+"), "proj"),
    (re.compile(r"\d+\.(?:in_layers|out_layers)\.0\..+"), "norm"),
    (re.compile(r"\d+\.(?:in_layers|out_layers)\.[23]\..+"), "conv"),
    (re.compile(r"\d+\.emb_layers\..+"), "embed"),
    (re.compile(r"\d+\.(?:skip_connection|op|conv)\..+"), "conv"),
    (re.compile(r"\d+\.(?:weight|bias)"), "conv"),
    (re.compile(r"(?:time_embed|label_emb)\..+"), "embed"),
    (re.compile(r"out\.0\..+"), "norm"),
    (re.compile(r"out\.\d+\..+"), "conv"),
)

# Linear maps applied to the text encoder's output: the only weights that see the prompt.
UNET_CONTEXT = re.compile(r".+\.attn2\.to_[kv]\.weight")

CLIP_TOWER = re.compile(r"(?:text_encoders\.)?clip_([lgh])\.(?:transformer\.)?(.+)")
# (pattern inside the tower, block after "TE_<tower>_", kind).
CLIP_PARTS: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (re.compile(r"text_model\.encoder\.layers\.(\d+)\.self_attn\..+"), "{0:02d}", "self_attn"),
    (re.compile(r"text_model\.encoder\.layers\.(\d+)\.mlp\..+"), "{0:02d}", "ff"),
    (re.compile(r"text_model\.encoder\.layers\.(\d+)\.layer_norm\d\..+"), "{0:02d}", "norm"),
    (re.compile(r"text_model\.embeddings\..+()"), "EMBED", "embed"),
    (re.compile(r"text_model\.final_layer_norm\..+()"), "FINAL", "norm"),
    (re.compile(r"text_projection(?:\..+)?()"), "FINAL", "proj"),
    (re.compile(r"logit_scale()"), "FINAL", "other"),
)
