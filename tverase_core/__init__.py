"""Concept erasure by task vectors, for any host: learn a concept, subtract what was learned.

The names below are the whole front door; each is imported when it is first used, so that importing
the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .concept_set import ConceptSet as ConceptSet
    from .erasers.concept_prune import concept_prune as concept_prune
    from .erasers.esd import esd as esd
    from .erasers.few_shot import few_shot as few_shot
    from .erasers.stereo import stereo as stereo
    from .erasers.uce import uce as uce
    from .errors import TveraseError as TveraseError
    from .files.apply import apply_to_file as apply_to_file
    from .files.extract import extract_between_files as extract_between_files
    from .files.lora.extract import extract_from_lora as extract_from_lora
    from .files.task_vector_file import load_task_vector as load_task_vector
    from .files.task_vector_file import save_task_vector as save_task_vector
    from .finetuning.config import FinetuneConfig as FinetuneConfig
    from .finetuning.train import finetune as finetune
    from .inversion.attack import concept_inversion as concept_inversion
    from .inversion.config import InversionConfig as InversionConfig
    from .inversion.diverse import diverse_inversion as diverse_inversion
    from .inversion.files import load_inversion_set as load_inversion_set
    from .inversion.files import save_inversion_set as save_inversion_set
    from .inversion.inversion_set import InversionSet as InversionSet
    from .masks.ranking import rank_blocks as rank_blocks
    from .model.block_mask import BlockMask as BlockMask
    from .model.fingerprint import BaseFingerprint as BaseFingerprint
    from .model.layout import detect_layout as detect_layout
    from .report.document import EraseReport as EraseReport
    from .schedule import FlowSchedule as FlowSchedule
    from .schedule import NoiseSchedule as NoiseSchedule
    from .strength.choice import SearchConfig as SearchConfig
    from .strength.search import find_strength as find_strength
    from .vector.algebra import weighted_sum as weighted_sum
    from .vector.erase import erased_weights as erased_weights
    from .vector.task_vector import TaskVector as TaskVector

_PLACES = {
    "BaseFingerprint": "model.fingerprint",
    "BlockMask": "model.block_mask",
    "ConceptSet": "concept_set",
    "EraseReport": "report.document",
    "FinetuneConfig": "finetuning.config",
    "FlowSchedule": "schedule",
    "InversionConfig": "inversion.config",
    "InversionSet": "inversion.inversion_set",
    "NoiseSchedule": "schedule",
    "SearchConfig": "strength.choice",
    "TaskVector": "vector.task_vector",
    "TveraseError": "errors",
    "apply_to_file": "files.apply",
    "concept_inversion": "inversion.attack",
    "concept_prune": "erasers.concept_prune",
    "detect_layout": "model.layout",
    "diverse_inversion": "inversion.diverse",
    "erased_weights": "vector.erase",
    "esd": "erasers.esd",
    "extract_between_files": "files.extract",
    "extract_from_lora": "files.lora.extract",
    "few_shot": "erasers.few_shot",
    "find_strength": "strength.search",
    "finetune": "finetuning.train",
    "load_inversion_set": "inversion.files",
    "load_task_vector": "files.task_vector_file",
    "rank_blocks": "masks.ranking",
    "save_inversion_set": "inversion.files",
    "save_task_vector": "files.task_vector_file",
    "stereo": "erasers.stereo",
    "uce": "erasers.uce",
    "weighted_sum": "vector.algebra",
}
__all__ = list(_PLACES)


def __getattr__(name: str) -> Any:
    """The named object of its module (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_PLACES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
