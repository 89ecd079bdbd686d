"""Tiny stand-ins for the files of real checkpoints: true key names, random values.

`placed` writes them to a server's model folders under the names that a shipped workflow asks for.
`register`, in the server, lets the stock loaders know their small sizes, which they take for other
models; all else of the loaders is the host's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from host_support import tiny_encoders, tiny_flow
from workflows.flow_families import FAMILIES

MARK = "tverase_tiny"  # in a file's metadata: the family of `tiny_encoders`
FOLDERS = {"unet_name": "diffusion_models", "vae_name": "vae"}


@dataclass(frozen=True)
class StandIn:
    """encoder: of `tiny_encoders`, which names the network too. parts: the text encoders by file
    input. frames: whether the VAE is one for videos."""

    encoder: str
    parts: Mapping[str, str]
    frames: bool = False


STAND_INS = {
    "erase_concept_z_image": StandIn("z-image", {"clip_name": "qwen3_4b"}),
    "erase_concept_qwen_image": StandIn("qwen-image", {"clip_name": "qwen25_7b"}, frames=True),
    "erase_concept_anima": StandIn("anima", {"clip_name": "qwen3_06b"}, frames=True),
    "erase_concept_flux1": StandIn("flux", {"clip_name1": "clip_l", "clip_name2": "t5xxl"}),
}


def why_none(name: str) -> str | None:
    """Why this workflow has no stand-ins on this host; None where it has."""
    if name not in STAND_INS:
        return {
            "erase_concept_flux2_klein": "its VAE has no small form, and ComfyUI 0.3.75 cannot "
            "load its text encoder",
            "erase_concept_sd35": "its text encoders have no small form: the host fills CLIP's "
            "states up to T5's 4096",
        }[name]
    kind = STAND_INS[name].encoder
    return None if tiny_encoders.known(kind) else f"this ComfyUI does not know {kind}"


@contextmanager
def placed(base: Path, name: str) -> Iterator[None]:
    """While open, the workflow's files are in the model folders of `base`."""
    made: list[Path] = []
    try:
        for folder, file, tensors in _files(name):
            made.append(base / "models" / folder / file)
            _save(made[-1], tensors, STAND_INS[name].encoder)
        yield
    finally:
        for path in made:
            path.unlink(missing_ok=True)


def _files(name: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(model folder, file name, tensors)."""
    family, stand_in = FAMILIES[name], STAND_INS[name]
    used = [family.used[0]] if family.used else []
    kind = tiny_encoders.FAMILIES[stand_in.encoder]
    for seed, file in enumerate([family.file, *used]):
        network = tiny_flow.build(kind.model, seed=seed, unet=kind.unet).model.diffusion_model
        yield "diffusion_models", file, network.state_dict()
    assert family.encoder is not None
    text_model = tiny_encoders.build(stand_in.encoder).cond_stage_model
    for socket, part in stand_in.parts.items():
        tower = getattr(text_model, part).transformer
        yield "text_encoders", family.encoder[1][socket], tower.state_dict()
    yield "vae", family.vae, _vae(stand_in.frames).state_dict()


def _vae(frames: bool) -> Any:
    """A VAE of 16 channels, 8 times smaller: the host's smallest for pictures, and for videos that
    of Wan and Qwen-Image, narrow."""
    import torch

    from host_support.tiny_host import fill

    with torch.inference_mode():
        if frames:
            from comfy.ldm.wan.vae import WanVAE

            sizes = {"dim": 8, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2}
            down = {"attn_scales": [], "temperal_downsample": [False, True, True], "dropout": 0.0}
            vae = WanVAE(**sizes, **down)
        else:
            from comfy.taesd.taesd import TAESD

            vae = TAESD(latent_channels=16)
        fill(vae, 2)
    return vae


def _save(path: Path, tensors: Mapping[str, Any], mark: str) -> None:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    own = {key: value.detach().clone().contiguous() for key, value in tensors.items()}
    save_file(own, path, metadata={MARK: mark})


def register() -> None:
    """Let the loaders of this ComfyUI open marked files."""
    import comfy.model_detection
    import comfy.sd
    import comfy.utils

    real_config, real_clip = comfy.model_detection.model_config_from_unet, comfy.sd.load_clip

    def config_of(*words: Any, metadata: Any = None, **options: Any) -> Any:
        mark = (metadata or {}).get(MARK)
        if mark is None:
            return real_config(*words, metadata=metadata, **options)
        kind = tiny_encoders.FAMILIES[mark]
        return tiny_flow.configured(kind.model, kind.unet)

    def clip_of(ckpt_paths: list[str], *words: Any, clip_type: Any = None, **options: Any) -> Any:
        read = [comfy.utils.load_torch_file(p, return_metadata=True) for p in ckpt_paths]
        mark = (read[0][1] or {}).get(MARK)
        if mark is None:
            return real_clip(ckpt_paths, *words, clip_type=clip_type, **options)
        known = {"z-image": "lumina2", "anima": "stable_diffusion"}
        wanted = known.get(mark, mark.replace("-", "_"))
        assert clip_type.name.lower() == wanted, f"{mark} wants the type {wanted}, got {clip_type}"
        clip = tiny_encoders.build(mark)
        for tensors, _ in read:
            _, unexpected = clip.load_sd(tensors)
            assert not unexpected, unexpected
        return clip

    comfy.model_detection.model_config_from_unet = config_of
    comfy.sd.load_clip = clip_of
