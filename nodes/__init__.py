"""The nodes of the pack, listed by hand. Ids are frozen: shared workflows hold them."""

from __future__ import annotations

from .baselines.debias import UceDebiasNode
from .baselines.esd import EsdNode
from .baselines.few_shot import ApplyNegatedTVToCLIP, FewShotNode
from .baselines.prune import ConceptPruneNode
from .baselines.stereo import StereoNode
from .baselines.uce import UceNode
from .concept.from_images import ConceptSetFromImages, ConceptSetFromLatents
from .concept.from_prompt import ConceptSetFromPrompt
from .concept.image_folder import LoadImageFolder
from .demo_nodes import DemoModel
from .finetune.node import ConceptFinetune
from .host.app.paths import register_folders
from .inversion.attack import ConceptInversionAttack
from .inversion.files import ExportEmbeddings, LoadInversionSet, SaveInversionSet
from .inversion.node import DiverseInversionNode
from .judging.damage import MeasureInterference
from .judging.judges import DemoJudgeNode, JudgeFromExamples
from .masks.mask import BlockMaskNode
from .masks.ranked import AutoBlockMask
from .shared.cancelled import told_when_cancelled
from .strength.node import AutoStrength
from .vector.algebra import CombineTaskVectors
from .vector.apply import ApplyNegatedTV, BeforeAfterGrid
from .vector.compare import CompareTaskVectors
from .vector.export import ExportUNet
from .vector.extract_files import ExtractFromFiles
from .vector.extract_save_load import ExtractTaskVector, LoadTaskVector, SaveTaskVector

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
    "TVEraseCombineTaskVectors": CombineTaskVectors,
    "TVEraseCompareTaskVectors": CompareTaskVectors,
    "TVEraseExportUNet": ExportUNet,
    "TVEraseESD": EsdNode,
    "TVEraseUCE": UceNode,
    "TVEraseUCEDebias": UceDebiasNode,
    "TVEraseConceptInversionAttack": ConceptInversionAttack,
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
    "TVEraseCombineTaskVectors": "Combine Task Vectors",
    "TVEraseCompareTaskVectors": "Compare Task Vectors",
    "TVEraseExportUNet": "Export UNet (diffusers)",
    "TVEraseESD": "ESD (Baseline)",
    "TVEraseUCE": "UCE (Baseline)",
    "TVEraseUCEDebias": "UCE Debiasing (Baseline)",
    "TVEraseConceptInversionAttack": "Concept Inversion Attack",
    "TVEraseLoadImageFolder": "Load Images from Folder",
    "TVEraseExtractFromFiles": "Extract from Files",
    "TVEraseMeasureInterference": "Measure Interference",
    "TVEraseSTEREO": "STEREO (Baseline)",
    "TVEraseConceptPrune": "ConceptPrune (Baseline)",
    "TVEraseFewShot": "Few-shot Unlearning (Baseline)",
    "TVEraseApplyToCLIP": "Apply Negated TV to CLIP",
}

for _node in NODE_CLASS_MAPPINGS.values():
    setattr(_node, _node.FUNCTION, told_when_cancelled(getattr(_node, _node.FUNCTION)))

WEB_DIRECTORY = "./web"
