"""The nodes of the pack, listed by hand. Ids are frozen: shared workflows hold them."""

from __future__ import annotations

from .algebra_nodes import CombineTaskVectors, CompressTaskVector
from .auto_mask_nodes import AutoBlockMask
from .baseline_nodes import EsdNode, UceNode
from .compare_nodes import CompareTaskVectors
from .concept_nodes import ConceptSetFromImages, ConceptSetFromLatents
from .damage_nodes import MeasureInterference
from .demo_nodes import DemoModel
from .draw_concept_nodes import ConceptSetFromPrompt
from .erase_nodes import ApplyNegatedTV, BeforeAfterGrid
from .export_nodes import ExportUNet
from .few_shot_nodes import ApplyNegatedTVToCLIP, FewShotNode
from .file_nodes import ExtractFromFiles
from .finetune_nodes import ConceptFinetune
from .host.paths import register_folders
from .image_folder_nodes import LoadImageFolder
from .inversion_file_nodes import ExportEmbeddings, LoadInversionSet, SaveInversionSet
from .inversion_nodes import DiverseInversionNode
from .judge_nodes import DemoJudgeNode, JudgeFromExamples
from .mask_nodes import BlockMaskNode
from .prune_nodes import ConceptPruneNode
from .stereo_nodes import StereoNode
from .strength_nodes import AutoStrength
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
    "TVEraseDemoJudge": DemoJudgeNode,
    "TVEraseJudgeFromExamples": JudgeFromExamples,
    "TVEraseDiverseInversion": DiverseInversionNode,
    "TVEraseSaveInversionSet": SaveInversionSet,
    "TVEraseLoadInversionSet": LoadInversionSet,
    "TVEraseExportEmbeddings": ExportEmbeddings,
    "TVEraseAutoStrength": AutoStrength,
    "TVEraseAutoBlockMask": AutoBlockMask,
    "TVEraseCompressTaskVector": CompressTaskVector,
    "TVEraseCombineTaskVectors": CombineTaskVectors,
    "TVEraseCompareTaskVectors": CompareTaskVectors,
    "TVEraseExportUNet": ExportUNet,
    "TVEraseESD": EsdNode,
    "TVEraseUCE": UceNode,
    "TVEraseLoadImageFolder": LoadImageFolder,
    "TVEraseExtractFromFiles": ExtractFromFiles,
    "TVEraseMeasureInterference": MeasureInterference,
    "TVEraseSTEREO": StereoNode,
    "TVEraseConceptPrune": ConceptPruneNode,
    "TVEraseFewShot": FewShotNode,
    "TVEraseApplyToCLIP": ApplyNegatedTVToCLIP,
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
    "TVEraseDemoJudge": "Demo Judge (TVErase)",
    "TVEraseJudgeFromExamples": "Concept Judge from Examples",
    "TVEraseDiverseInversion": "Diverse Inversion",
    "TVEraseSaveInversionSet": "Save Inversion Set",
    "TVEraseLoadInversionSet": "Load Inversion Set",
    "TVEraseExportEmbeddings": "Export Embeddings",
    "TVEraseAutoStrength": "Auto-Strength",
    "TVEraseAutoBlockMask": "Auto Block Mask",
    "TVEraseCompressTaskVector": "Compress Task Vector",
    "TVEraseCombineTaskVectors": "Combine Task Vectors",
    "TVEraseCompareTaskVectors": "Compare Task Vectors",
    "TVEraseExportUNet": "Export UNet (diffusers)",
    "TVEraseESD": "ESD (Baseline)",
    "TVEraseUCE": "UCE (Baseline)",
    "TVEraseLoadImageFolder": "Load Images from Folder",
    "TVEraseExtractFromFiles": "Extract from Files",
    "TVEraseMeasureInterference": "Measure Interference",
    "TVEraseSTEREO": "STEREO (Baseline)",
    "TVEraseConceptPrune": "ConceptPrune (Baseline)",
    "TVEraseFewShot": "Few-shot Unlearning (Baseline)",
    "TVEraseApplyToCLIP": "Apply Negated TV to CLIP",
}

WEB_DIRECTORY = "./web"
