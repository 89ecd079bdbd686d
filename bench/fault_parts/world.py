"""Models, and what stages need of each other; nothing here changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from host_support import attack_steps, host_steps, tiny_host
from tverase_core.concept_set import ConceptSet
from tverase_core.inversion.inversion_set import InversionSet, encoder_digest
from tverase_core.vector.provenance import Provenance
from tverase_core.vector.task_vector import TaskVector

Stage = Callable[[], Any]
Stages = dict[str, Stage]  # by name; each gives what can be hashed
DRAWING = {**attack_steps.DRAWING, "width": 32, "height": 32, "sampling_steps": 1}


class AnyWorld:
    """model, clip, vae: what nodes take. output: ComfyUI's folder."""

    pack: Any
    output: Path
    model: Any
    clip: Any
    vae: Any
    vector: TaskVector

    def node(self, name: str, /, **inputs: Any) -> Any:
        """A node's outputs, run as the host runs it; widgets that are not given have their
        defaults."""
        cls = self.pack.NODE_CLASS_MAPPINGS[f"TVErase{name}"]
        return host_steps.node(self.pack, name, **{**attack_steps.defaults(cls), **inputs})

    def whole(self) -> dict[str, Any]:
        """The inputs that most nodes share."""
        return {"model": self.model, "clip": self.clip, "vae": self.vae}

    def applied(self, precision: str) -> Any:
        """The model with the vector subtracted."""
        given = {"task_vector": self.vector, "strength": 1.0, "precision": precision}
        return self.node("ApplyNegatedTV", model=self.model, **given)[0]

    def predicted(self, model: Any) -> Tensor:
        """What a MODEL computes when the host loads it whole."""
        raise NotImplementedError

    def stages(self) -> Stages:
        raise NotImplementedError


class World(AnyWorld):
    """A tiny UNet with a text encoder, a VAE and a judge of known answers."""

    def __init__(self, pack: Any, output: Path, storage: torch.dtype = torch.float16):
        self.pack, self.output = pack, output
        self.model = tiny_host.build_model(storage=storage)
        self.clip = tiny_host.build_clip()
        self.reuse = ""  # of finished work: the widget's choice
        self.vae, self.judge = attack_steps.FlatVAE(), attack_steps.MeanJudge()
        self.pictures: ConceptSet = host_steps.pictures(3)
        self.vector = attack_steps.bright_vector(self.model)
        self.triggers = self._triggers()
        self.clip_vector: TaskVector = self.node("FewShot", **self.few_shot())[0]
        self.written = self.output / "loras" / "kept_00001_.tv.safetensors"
        self.node("SaveTaskVector", **self.saving("kept"))

    def predicted(self, model: Any) -> Tensor:
        return host_steps.output(model)

    def stages(self) -> Stages:
        from .stages import of_world

        return of_world(self)

    def judged(self) -> dict[str, Any]:
        """`whole`, a judge and how to draw."""
        return {**self.whole(), "judge": self.judge, **DRAWING}

    def saving(self, name: str) -> dict[str, Any]:
        return {"task_vector": self.vector, "filename_prefix": name, "dtype": "float32"}

    def few_shot(self) -> dict[str, Any]:
        small = {"captions": "a {}", "epochs": 1, "batch_size": 1, "seed": 1, "pictures": 1}
        given = {"model": self.model, "clip": self.clip, "concept_set": self.pictures}
        return {**given, **small, "learning_rate": 1e-3}

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


class DemoWorld(AnyWorld):
    """One of the two demo models, with its own CLIP and VAE."""

    def __init__(self, pack: Any, output: Path, kind: str):
        from tverase_pack.nodes.host.model.weights import fingerprint, model_shapes

        self.pack, self.output, self.kind = pack, output, kind
        with torch.inference_mode():
            demo = pack.NODE_CLASS_MAPPINGS["TVEraseDemoModel"]()
            self.model, self.clip, self.vae = demo.load(kind)
        self.pictures: ConceptSet = self.concept_set()[0]
        key = next(k for k, shape in model_shapes(self.model).items() if len(shape) == 2)
        delta = torch.full(model_shapes(self.model)[key], 1e-3)
        told = Provenance(concepts=("cat",))
        self.vector = TaskVector({key: delta}, fingerprint(self.model), told)

    def concept_set(self) -> Any:
        """Two pictures of a cat."""
        return self.node(
            "ConceptSetFromPrompt",
            model=self.model,
            clip=self.clip,
            **dict(prompt="a cat", concept="cat", count=2, width=64, height=64, seed=1),
            **dict(steps=1, cfg=1.0, sampler_name="euler", scheduler="normal", batch_size=2),
            caption="",
        )

    def predicted(self, model: Any) -> Tensor:
        from tverase_pack.nodes.host.drawing.sampling import SamplerSettings, sample_latents
        from tverase_pack.nodes.host.model.conditioning import encode_texts, to_context

        settings = SamplerSettings(1, 1.0, "euler", "normal", 64, 64)
        with torch.inference_mode():
            texts = [to_context(model, encode_texts(self.clip, [text])) for text in ("a cat", "")]
            return sample_latents(model, *texts, [1], settings)

    def stages(self) -> Stages:
        from .stages import of_demo

        return of_demo(self)
