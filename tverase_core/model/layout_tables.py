"""Where the weights of known models sit: patterns of names, nothing else.

Block names IN, M, OUT are the ones that users of block-weight merging know; TIME, FINAL and the
TE_ names are our own. Diffusion transformers have the names of their own modules.
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

# Diffusion transformers: the numbered stacks, in the order of the data flow.
DIT_STACKS = (
    "context_processor.layers",
    "context_refiner",
    "noise_refiner",
    "ref_image_refiner",
    "double_blocks",
    "double_layers",
    "double_stream_blocks",
    "joint_blocks",
    "blocks",
    "transformer_blocks",
    "layers",
    "single_blocks",
    "single_layers",
    "single_stream_blocks",
    "nerf_blocks",
)
DIT_BLOCK = re.compile(
    rf"diffusion_model\.(?P<stack>{'|'.join(map(re.escape, DIT_STACKS))})\.(?P<number>\d+)\..+"
)
# Modules after the last stack.
DIT_ENDS = ("norm_final", "norm_out", "modF", "final_layer", "final_linear", "proj_out", "head")

# (pattern searched in the name after "diffusion_model.", kind); the first that is found counts.
# Where text and image tokens attend jointly, the text stream's weights are "cross_attn" and the
# image stream's "self_attn". Flux's single blocks hold attention and feed-forward in one matrix,
# which counts as "self_attn". What the timestep modulates with is "embed", as in a UNet.
DIT_KINDS: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"modulation|[._]mod\.|\.mod[CX]+\.|^modF|scale_shift_table|^adaln_single"),
        "embed",
    ),
    (re.compile(r"\.norm1\.linear\.|^norm_out\.linear"), "embed"),
    (re.compile(r"norm|\.ln_[qk]\."), "norm"),
    (re.compile(r"^(?:img|txt|time|vector|guidance|byt5|vision)_in\."), "embed"),
    (re.compile(r"^joint_blocks\.\d+\.x_block\.attn2?\."), "self_attn"),
    (re.compile(r"\.(?:cross_attn|txt_attn|attn2)\.|\.context_block\.attn\."), "cross_attn"),
    (re.compile(r"\.attn\.(?:add_[qkv]_proj|to_add_out)\.|\.attn1\.to_\w+_t\."), "cross_attn"),
    (re.compile(r"^double_layers\.\d+\.attn\.w1"), "cross_attn"),
    (re.compile(r"\.(?:self_attn|img_attn|attn1?|attention)\."), "self_attn"),
    (re.compile(r"^single_blocks\.\d+\.linear[12]\."), "self_attn"),
    (re.compile(r"embed|^caption_projection|^cond_seq_linear|^init_x_linear"), "embed"),
    (re.compile(r"^llm_adapter\.(?:in|out)_proj\."), "embed"),
    (re.compile(r"^(?:t_block|pooler|mlp_t5|time_projection|patchify_proj|img_emb)\."), "embed"),
    (re.compile(r"^distilled_guidance_layer\.|^positional_encoding"), "embed"),
    (re.compile(r"^register_tokens|^(?:cap|x)_pad_token"), "embed"),
    (re.compile(r"\.(?:(?:img_|txt_)?mlp[CX]?|ff(?:_[it]|n)?|feed_forward)\."), "ff"),
    (re.compile(r"\.skip_linear\.|^final_(?:layer\.)?linear|^proj_out|^head\."), "proj"),
)

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
