"""The nodes of the pack, listed by hand. Ids are frozen: shared workflows hold them."""

from __future__ import annotations

from .concept_nodes import ConceptSetFromImages, ConceptSetFromLatents
from .demo_nodes import DemoModel
from .draw_concept_nodes import ConceptSetFromPrompt
from .erase_nodes import ApplyNegatedTV, BeforeAfterGrid
from .finetune_nodes import ConceptFinetune
from .host.paths import register_folders
from .mask_nodes import BlockMaskNode
from .task_vector_nodes import ExtractTaskVector, LoadTaskVector, SaveTaskVector

register_folders()

NODE_CLASS_MAPPINGS = {
    "TVEraseDemoModel": DemoModel,
    "TVEraseConceptSetFromImages": ConceptSetFromImages,
    "TVEraseConceptSetFromLatents": ConceptSetFromLatents,
    "TVEraseConceptSetFromPrompt": ConceptSetFromPrompt,
    "TVEraseConceptFinetune": ConceptFinetune,
    "TVEraseExtractTaskVector": ExtractTaskVector,
    "TVEraseSaveTaskVector": SaveTaskVector,
    "TVEraseLoadTaskVector": LoadTaskVector,
    "TVEraseBlockMask": BlockMaskNode,
    "TVEraseApplyNegatedTV": ApplyNegatedTV,
    "TVEraseBeforeAfterGrid": BeforeAfterGrid,
}

NODE_DISPLAY_NAME_MAPPINGS = {
    "TVEraseDemoModel": "Demo Model (TVErase)",
    "TVEraseConceptSetFromImages": "Concept Set from Images",
    "TVEraseConceptSetFromLatents": "Concept Set from Latents",
    "TVEraseConceptSetFromPrompt": "Concept Set from Prompt",
    "TVEraseConceptFinetune": "Concept Fine-tune",
    "TVEraseExtractTaskVector": "Extract Task Vector",
    "TVEraseSaveTaskVector": "Save Task Vector",
    "TVEraseLoadTaskVector": "Load Task Vector",
    "TVEraseBlockMask": "Block Mask",
    "TVEraseApplyNegatedTV": "Apply Negated TV",
    "TVEraseBeforeAfterGrid": "Before / After Grid",
}

WEB_DIRECTORY = "./web"
