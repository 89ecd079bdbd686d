"""Every stage of an erasure on a tiny model, small enough to run hundreds of times."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from host_support import attack_steps, host_steps, tiny_host
from tverase_core.concept_set import ConceptSet
from tverase_core.inversion.inversion_set import InversionSet, encoder_digest
from tverase_core.tensors import tensor_bytes
from tverase_core.vector.provenance import Provenance
from tverase_core.vector.task_vector import TaskVector

DRAWING = {**attack_steps.DRAWING, "width": 32, "height": 32, "sampling_steps": 1}
SLOW = {
    *("fine-tune", "fine-tune, low rank, recomputed, retained", "fine-tune with checkpoints"),
    *("invert", "attack an erased model", "strength", "mask", "ESD", "STEREO", "Few-shot"),
}
Stage = Callable[[], Any]


class World:
    """A model, its CLIP and VAE, and what stages need of each other; nothing here changes."""

    def __init__(self, pack: Any, output: Path, storage: torch.dtype = torch.float16):
        self.pack, self.output = pack, output
        self.model = tiny_host.build_model(storage=storage)
        self.clip = tiny_host.build_clip()
        self.vae = attack_steps.FlatVAE()
        self.judge = attack_steps.MeanJudge()
        self.pictures: ConceptSet = host_steps.pictures(3)
        self.vector: TaskVector = attack_steps.bright_vector(self.model)
        self.triggers = self._triggers()
        self.clip_vector = self.node("FewShot", **self._few_shot())[0]
        self.written = self.output / "loras" / "kept_00001_.tv.safetensors"
        self.node("SaveTaskVector", **self.saving("kept"))

    def node(self, name: str, /, **inputs: Any) -> Any:
        """A node's outputs, run as the host runs it; widgets that are not given have their
        defaults."""
        cls = self.pack.NODE_CLASS_MAPPINGS[f"TVErase{name}"]
        return host_steps.node(self.pack, name, **{**attack_steps.defaults(cls), **inputs})

    def stages(self) -> dict[str, Stage]:
        """By name; each gives what can be hashed."""
        base = {"model": self.model}
        whole = {**base, "clip": self.clip, "vae": self.vae}
        tuning = {**base, "concept_set": self.pictures, **host_steps.TUNING}
        return {
            "concept set": lambda: self.node(
                "ConceptSetFromPrompt",
                **base,
                clip=self.clip,
                **dict(prompt="a cat", concept="cat", count=2, width=32, height=32, seed=1),
                **dict(steps=2, cfg=2.0, sampler_name="euler", scheduler="normal", batch_size=2),
                caption="",
            ),
            "fine-tune": lambda: self.node("ConceptFinetune", **tuning)[2],
            "fine-tune, low rank, recomputed, retained": lambda: self.node(
                "ConceptFinetune",
                **{**tuning, "rank": 2},
                retained_set=self.pictures,
                gradient_checkpointing="always",
            )[2],
            "fine-tune with checkpoints": lambda: self.node(
                "ConceptFinetune", **tuning, checkpoint_every=1
            )[2],
            "extract": self._extract,
            "invert": lambda: self.node(
                "DiverseInversion",
                **whole,
                concept_set=self.pictures,
                judge=self.judge,
                **{**DRAWING, "count": 2, "steps": 2, "batch": 1, "checks": 2, "restarts": 0},
            )[0],
            "attack an erased model": lambda: self.node(
                "DiverseInversion",
                **{**whole, "model": self._applied("patch")},
                concept_set=self.pictures,
                judge=self.judge,
                **{**DRAWING, "count": 1, "steps": 2, "batch": 1, "checks": 2, "restarts": 0},
            )[0],
            "strength": lambda: self.node(
                "AutoStrength",
                **whole,
                task_vector=self.vector,
                inversion_set=self.triggers,
                judge=self.judge,
                **{**DRAWING, "retained": "a dog | dog", "target": 0.5, "max_strength": 2.0},
                **{"step": 0.5, "pictures_per_trigger": 4, "pictures_per_retained": 2},
            ),
            "mask": lambda: self.node(
                "AutoBlockMask",
                **base,
                clip=self.clip,
                task_vector=self.vector,
                concept_set=self.pictures,
                inversion_set=self.triggers,
                **{**DRAWING, "retained": "a dog | dog", "probes": 2, "most_triggers": 1},
            )[1],
            "apply, patches, draw": lambda: self._drawn("patch"),
            "apply, runtime exact, draw": lambda: self._drawn("runtime_exact"),
            "save": lambda: self._file("SaveTaskVector", **self.saving("saved")),
            "save compact": lambda: self._file(
                "SaveTaskVector", **self.saving("compact"), max_error=0.1
            ),
            "load": lambda: self.node("LoadTaskVector", file=self.written.name)[0],
            "export UNet": self._export,
            "ESD": lambda: self.node(
                "ESD",
                **base,
                clip=self.clip,
                concept_set=self.pictures,
                **{"steps": 2, "batch_size": 1},
            )[0],
            "UCE": lambda: self.node(
                "UCE",
                **base,
                clip=self.clip,
                **dict(concepts="cat", guide="", preserve="a dog", keep=0.5, preserve_weight=1.0),
            )[0],
            "STEREO": lambda: self.node(
                "STEREO",
                **base,
                clip=self.clip,
                concept_set=self.pictures,
                **dict(rounds=1, erase_steps=1, attack_steps=1, final_steps=1, batch_size=1),
            )[0],
            "ConceptPrune": lambda: self.node(
                "ConceptPrune",
                **base,
                clip=self.clip,
                **dict(concept="cat", prompts="a cat", contrast="a dog", ratio=0.05, seed=3),
                **dict(steps_used=1, pictures_per_prompt=1),
                **DRAWING,
            )[0],
            "Few-shot": lambda: self.node("FewShot", **self._few_shot())[0],
            "apply to CLIP": self._clip_applied,
        }

    def _triggers(self) -> InversionSet:
        from tverase_pack.nodes.host.text.encoder import HostTextEncoder

        encoder = HostTextEncoder(self.model, self.clip)
        source = torch.Generator().manual_seed(1)
        ones = torch.ones(2)
        return InversionSet(
            vectors={"l": 0.2 * torch.randn(2, 1, 32, generator=source)},
            losses=ones,
            seeds=torch.arange(2),
            valid=ones.bool(),
            concept="cat",
            template="a {}",
            text_encoder=encoder_digest(encoder),
            hit_rates=ones,
        )

    def saving(self, name: str) -> dict[str, Any]:
        return {"task_vector": self.vector, "filename_prefix": name, "dtype": "float32"}

    def _file(self, node: str, **inputs: Any) -> dict[str, Tensor]:
        """Tensors of the file that a saving node writes, which is gone afterwards."""
        from tverase_core.files.task_vector_file import load_task_vector

        path = self.output / self.node(node, **inputs)[0]
        try:
            return dict(load_task_vector(path).deltas)
        finally:
            path.unlink()

    def _extract(self) -> TaskVector:
        tuned = self.model.clone()
        delta = torch.full((4,), 0.5)
        tuned.add_patches({attack_steps.BIAS: ("diff", (delta,))})
        found: TaskVector = self.node("ExtractTaskVector", base=self.model, tuned=tuned)[0]
        return found

    def _applied(self, precision: str) -> Any:
        return self.node(
            "ApplyNegatedTV",
            model=self.model,
            task_vector=self.vector,
            strength=1.0,
            precision=precision,
        )[0]

    def _drawn(self, precision: str) -> Tensor:
        return host_steps.output(self._applied(precision))

    def _export(self) -> bytes:
        from tverase_pack.nodes.host.model.export import export_unet

        with torch.inference_mode():
            path = export_unet(self._applied("patch"), "unet")
        try:
            return path.read_bytes()
        finally:
            path.unlink()

    def _few_shot(self) -> dict[str, Any]:
        small = {"captions": "a {}", "epochs": 1, "batch_size": 1, "seed": 1, "pictures": 1}
        given = {"model": self.model, "clip": self.clip, "concept_set": self.pictures}
        return {**given, **small, "learning_rate": 1e-3}

    def _clip_applied(self) -> Tensor:
        erased = self.node(
            "ApplyToCLIP", clip=self.clip, task_vector=self.clip_vector, strength=1.0
        )[0]
        with torch.inference_mode():
            found: Tensor = erased.encode_from_tokens(erased.tokenize("a cat"))
        return found


def digest_of(value: Any) -> str:
    """sha256 of all that is in a result: tensors to the bit, texts, numbers; what says when it was
    made is left out."""
    total = hashlib.sha256()
    for part in _parts(value):
        total.update(part)
    return total.hexdigest()


def _parts(value: Any) -> Iterator[bytes | memoryview]:
    if isinstance(value, Tensor):
        yield f"{value.dtype}{tuple(value.shape)}".encode()
        yield tensor_bytes(value.cpu())
    elif isinstance(value, bytes):
        yield value
    elif isinstance(value, Provenance):
        yield repr((value.concepts, sorted(value.recipe.items()))).encode()
    elif is_dataclass(value):
        for field in fields(value):
            yield from _parts(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield str(key).encode()
            yield from _parts(value[key])
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _parts(part)
    else:
        yield repr(value).encode()
