"""This pack: Concept Fine-tune by the paper's plain recipe, Diverse Inversion."""

from __future__ import annotations

from typing import Any

import torch

from bench.erasure.arithmetic import in_float32

from .clock import StepClock
from .host import Host
from .sizes import ASKED, ATTENTION_RULE, RANK, Place


def whole(place: Place) -> dict[str, Any]:
    """Every weight."""
    return _tuned(place)


def lean(place: Place) -> dict[str, Any]:
    """Every weight, by the settings that need least memory: 8-bit moments, blocks recomputed, the
    optimizer's steps in the backward pass, the base as its file has it."""
    when = {"gradient_checkpointing": "always", "fused_backward": "always"}
    return _tuned(place, dtype=torch.float16, optimizer="AdamW 8-bit", **when)


def matrices(place: Place) -> dict[str, Any]:
    """Rank 16 in every matrix and convolution, what the node does of itself."""
    return _tuned(place, rank=RANK)


def attention(place: Place) -> dict[str, Any]:
    """Rank 16 in the projections of attention, by a mask."""
    return _tuned(place, ATTENTION_RULE, rank=RANK)


def _tuned(
    place: Place, rule: str = "", dtype: torch.dtype | None = None, **chosen: Any
) -> dict[str, Any]:
    """The real node with its own settings, but for what peers lack: no moving average, no flips;
    all pictures of a step at once."""
    host, clock = Host(place), StepClock(place.timed)
    from tverase_pack.nodes.host.training.recompute import blocks_of
    from tverase_pack.tverase_core.concept_set import concept_set
    from tverase_pack.tverase_core.ports import Context

    nodes = host.pack.NODE_CLASS_MAPPINGS
    node, model = nodes["TVEraseConceptFinetune"](), host.model(dtype)
    mask = {}
    if rule:
        made = nodes["TVEraseBlockMask"]().choose(model, "custom", rule)
        mask = {"block_mask": made["result"][0]}
    pictures = concept_set("thing", host.given["latents"], Context(host.given["empty"]))
    widgets = {
        **defaults(node),
        "steps": place.timed + 2,
        "batch_size": place.size.pictures,
        "accumulation": 1,
        "flip": False,
        "ema": False,
        **chosen,
    }
    recomputed = []

    def on_bar(*words: Any, **more: Any) -> None:
        # Recomputing covers `forward` of the blocks.
        blocks = blocks_of(model.model.diffusion_model).values()
        recomputed.append(any("forward" in vars(block) for block in blocks))
        clock.on_bar(*words, **more)

    host.follow(on_bar)
    with in_float32(), torch.inference_mode(), clock.running():  # as the peers
        node.tune(model, pictures, **mask, **widgets)
    return {**clock.report(), "recomputed": recomputed[-1]}


def defaults(node: Any) -> dict[str, Any]:
    """What the node's widgets hold when it is put on the canvas."""
    inputs = [spec for group in node.INPUT_TYPES().values() for spec in group.items()]
    told = {name: spec[1] for name, spec in inputs if len(spec) > 1}
    return {name: options["default"] for name, options in told.items() if "default" in options}


def inversion(place: Place) -> dict[str, Any]:
    """The node's search, all embeddings in one batch; its checks by a judge come after it."""
    host, size = Host(place), place.size
    clock = StepClock(place.timed)
    from tverase_pack.nodes.host.model.denoiser import open_denoiser
    from tverase_pack.nodes.host.text.encoder import HostTextEncoder
    from tverase_pack.nodes.inversion.inversion_settings import inversion_config
    from tverase_pack.tverase_core.concept_set import concept_set
    from tverase_pack.tverase_core.inversion.engine import invert
    from tverase_pack.tverase_core.ports import Context

    widgets = {
        **defaults(host.pack.NODE_CLASS_MAPPINGS["TVEraseDiverseInversion"]),
        "count": size.embeddings,
        "steps": place.timed + 2,
        "batch": size.each,
    }
    pictures = concept_set("thing", host.given["small"], Context(host.given["empty"]))
    model = host.model()
    with torch.inference_mode():
        encoder = HostTextEncoder(model, host.clip())
        # Not `autocast`, which on some CPUs computes in bfloat16, where the peer does not.
        with open_denoiser(model) as denoiser, clock.running():
            invert(
                denoiser,
                encoder,
                pictures,
                inversion_config(widgets),
                lambda done, total, _: clock.on_bar(done, total, None),
            )
    return clock.report()


def prediction(place: Place) -> list[float]:
    """As by_diffusers.prediction: what ComfyUI's network says of the same."""
    host = Host(place)
    from tverase_pack.nodes.host.model.denoiser import open_denoiser
    from tverase_pack.tverase_core.ports import Context

    latents = host.given["small"][:1].expand(len(ASKED), -1, -1, -1)
    text = Context(host.given["empty"].expand(len(ASKED), -1, -1))
    with open_denoiser(host.model()) as denoiser, torch.no_grad():
        made = denoiser.predict(latents, torch.tensor(ASKED), text)
    return list(made.flatten().tolist())
