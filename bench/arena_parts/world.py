"""What all methods of one concept and seed share: model, judge, pictures, triggers."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from bench.erasure.arithmetic import in_float32
from bench.erasure.concepts import ROOT
from devtools.in_process import import_host, load_pack

from .looks import EVERY_CONCEPT, Looks, LooksJudge
from .settings import AT_ONCE, DRAWN, INVERTED, KINDS, Budget

CACHE = ROOT / ".cache" / "arena"
TRAINING_SEEDS, RETAINED_SEEDS = 100_000, 200_000  # of pictures; a seed's own lie 1000 apart


class World:
    """Drawn and found things are kept in the cache, made anew where they are not there."""

    def __init__(self, comfyui: Path, name: str, seed: int, budget: Budget, store: str):
        host = import_host(comfyui)
        self._outputs = tempfile.TemporaryDirectory()  # the nodes' pictures; gone with the job
        host.folder_paths.set_temp_directory(self._outputs.name)
        host.folder_paths.set_output_directory(self._outputs.name)
        self.nodes = load_pack().NODE_CLASS_MAPPINGS
        self.model, self.clip, self.vae = self.nodes["TVEraseDemoModel"]().load()
        self.concept = EVERY_CONCEPT[name]
        judge = self.nodes["TVEraseDemoJudge"]().load()[0]
        several = isinstance(self.concept, Looks)
        self.judge = LooksJudge(judge, self.concept) if several else judge
        self.kind, self.seed, self.budget = KINDS[name], seed, budget
        self.cache = CACHE / store / f"{name}-{seed}"
        self.cache.mkdir(parents=True, exist_ok=True)

    def run(self, node: str, *inputs: Any, **widgets: Any) -> Any:
        """Outputs of a node of the pack, with its default for each widget that is not named."""
        made = self.nodes[node]
        function = getattr(made(), made.FUNCTION)
        drawn = {k: v for k, v in self.drawing().items() if k in _options(made)}
        out = function(*inputs, **{**defaults(made), **drawn, **widgets})
        return out["result"] if isinstance(out, dict) else out

    def drawing(self) -> dict[str, Any]:
        """The sampler's widgets of every node that draws."""
        return {**DRAWN, "sampling_steps": self.budget.sampling_steps, "pictures_at_once": AT_ONCE}

    def sampler(self) -> Any:
        """The same as the host's settings."""
        from tverase_pack.nodes.shared.drawing_settings import drawing_of

        return drawing_of(self.drawing())

    def pictures(self, captions: Sequence[str] = ("",), share: float = 1.0, **texts: Any) -> Any:
        """The concept's pictures as a concept set; texts: prompts, contrasts of a guide."""
        from tverase_pack.nodes.concept.building import build_concept_set

        lines, start = self.concept.learned, TRAINING_SEEDS + 1000 * self.seed
        latents = self._latents("pictures", lines, self.budget.pictures, start)
        parts = self.model, self.clip, latents, self.concept.name, captions, share
        return build_concept_set(*parts, **texts)

    def guided_pictures(self, contrasts: Sequence[str] | None = None) -> Any:
        """Half of them captioned, with a guide from and to."""
        c = self.concept
        texts = {"prompts": c.learned, "contrasts": contrasts or c.contrasts}
        return self.pictures(c.captions, c.caption_share, **texts)

    def retained(self) -> Any:
        """Pictures of the tuning prompts, each under its own; never of the reported ones."""
        from tverase_pack.nodes.concept.building import build_concept_set

        lines = [prompt for prompt, _ in self.concept.tuning]
        count, start = self.budget.retained_each * len(lines), RETAINED_SEEDS + 1000 * self.seed
        latents = self._latents("retained", lines, count, start)
        return build_concept_set(self.model, self.clip, latents, "what must stay", lines)

    @in_float32()
    def _latents(self, name: str, lines: Sequence[str], count: int, start: int) -> torch.Tensor:
        path = self.cache / f"{name}.safetensors"
        if not path.exists():
            drawing = {
                **DRAWN,
                "steps": self.budget.sampling_steps,
                "batch_size": AT_ONCE,
                "caption": "",
            }
            drawn = self.nodes["TVEraseConceptSetFromPrompt"]().draw(
                *(self.model, self.clip, "\n".join(lines), name),
                **{**drawing, "count": count, "seed": start},
            )
            write_whole(path, {"latents": drawn[1]["samples"]})
        return load_file(path)["latents"]

    def triggers(self, name: str = "diverse", **changed: Any) -> tuple[Any, Any]:
        """(those that tune, those that are reported): half each of a validated inversion set.

        changed: other widgets of Diverse Inversion, under a `name` of its own.
        """
        from tverase_core.inversion.files import load_inversion_set, save_inversion_set

        path = self.cache / f"{name}.inversions.safetensors"
        if not path.exists():
            found = self._inverted(**changed)
            save_inversion_set(path, found, "demo")
        halves: tuple[Any, Any] = load_inversion_set(path).split(0.5, self.seed)
        return halves

    def _inverted(self, **changed: Any) -> Any:
        concept, budget = self.concept, self.budget
        widgets = {
            **INVERTED,
            "count": budget.inversions,
            "steps": budget.inversion_steps,
            "seed": 1000 * self.seed,
            "prompt": concept.plain,
            "template": concept.template,
            **changed,
        }
        parts = self.model, self.clip, self.vae, self.pictures(), self.judge
        return self.run("TVEraseDiverseInversion", *parts, **widgets)[0]


def _options(node: Any) -> dict[str, Any]:
    options = node.INPUT_TYPES()
    return {**options["required"], **options.get("optional", {})}


def defaults(node: Any) -> dict[str, Any]:
    """What a node's widgets hold when it is put on the canvas."""
    told = {name: spec[1] for name, spec in _options(node).items() if len(spec) > 1}
    return {name: options["default"] for name, options in told.items() if "default" in options}


def write_whole(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """In one stroke: another process may look for it at the same time."""
    temporary = path.with_suffix(f".{os.getpid()}.part")
    save_file({name: value.contiguous() for name, value in tensors.items()}, temporary)
    os.replace(temporary, path)
