"""Choose which blocks of the model an edit may touch."""

from __future__ import annotations

from typing import Any

from ...tverase_core.model.block_mask import BlockMask
from ...tverase_core.model.mask_text import PRESETS, parse_mask
from ..pictures.block_map import block_map
from ..shared.node_output import with_picture
from ..shared.sockets import BLOCK_MASK, CATEGORY
from ..shared.widgets import choice, socket, text


class BlockMaskNode:
    """A preset, or rules as text."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": socket("MODEL", "The model whose blocks are chosen from."),
                "preset": choice(
                    [*PRESETS, "custom"], "A ready choice, or custom rules below.", default="full"
                ),
                "rules": text(
                    "",
                    "For 'custom', one rule a line: IN01-IN05, M00=0.5, OUT*, "
                    "kind:cross_attn, !IN03, /regex/=0.3",
                    multiline=True,
                ),
            }
        }

    RETURN_TYPES = (BLOCK_MASK,)
    RETURN_NAMES = ("block_mask",)
    OUTPUT_TOOLTIPS = ("For Apply Negated TV or Concept Fine-tune.",)
    FUNCTION = "choose"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Chooses the blocks that an edit touches, by the community's names (IN00.., M00, OUT00..) "
        "and by kind of layer, and shows them on a map."
    )
    SEARCH_ALIASES = ["block weight", "layers", "lbw", "mbw"]

    def choose(self, model: Any, preset: str, rules: str) -> dict[str, Any]:
        from ..host.model.weights import layout_of, model_shapes

        layout = layout_of(model)
        text = rules if preset == "custom" else preset
        mask: BlockMask = parse_mask(text, layout.blocks())
        picture = block_map(mask, layout, model_shapes(model))
        return with_picture(picture, "mask", (mask,))
