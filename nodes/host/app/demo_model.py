"""Build the demo models out of the host's own classes: network, CLIP text encoder, VAE.

One is a small Stable Diffusion, the other a small Z-Image: the stock KSampler samples them, the
stock CLIP Text Encode encodes for them, the stock VAE Decode decodes them. They are built here
rather than by the checkpoint loader, because that one recognises only the sizes of published
models.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import torch
from safetensors.torch import load_file

from ....demo.autoencoder import Autoencoder
from .demo_flow import flow_model, states_needed

UNET_KIND, FLOW_KIND = KINDS = ("UNet", "flow")
UNET, TEXT, VAE_PART = "diffusion_model.", "text_encoder.", "vae."
VOCABULARY, ROWS = "text_encoder.vocabulary", "text_encoder.rows"
TOKEN_STD = 1.0  # of the training start; fills the rows of words that no caption held
TOKEN_SEED = 49408


class DemoLatent(comfy.latent_formats.LatentFormat):
    """Latents as the encoder makes them: 24 channels, variance 1 already."""

    latent_channels = 24
    scale_factor = 1.0


class DemoConfig(comfy.supported_models_base.BASE):
    """What the host wants to know of a model family."""

    unet_config: dict[str, Any] = {}
    unet_extra_config: dict[str, Any] = {}
    latent_format = DemoLatent
    memory_usage_factor = 1.0

    def inpaint_model(self) -> bool:
        return False  # the host takes more than 4 input channels for an inpainting model

    def process_clip_state_dict_for_saving(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        return {"cond_stage_model." + k.removeprefix("clip_l."): v for k, v in state_dict.items()}


def load_demo_model(folder: Path, kind: str = UNET_KIND) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE of a demo model in `folder`, one of `KINDS`.

    Raises FileNotFoundError when the weights are not there, and what `flow_model` raises.
    """
    tensors, config = _weights(folder, "demo_model", "train"), _config(folder, "config")
    vae = _vae(config, tensors)
    if kind == UNET_KIND:
        return _model(config, tensors), _clip(folder, config, tensors), vae
    flow = _config(folder, "flow_config")
    family = DemoConfig(flow["network"])
    family.sampling_settings = {"multiplier": 1.0, "shift": flow["shift"]}
    family.set_inference_dtype(torch.float32, None)
    model = flow_model(family, _part(_weights(folder, "demo_flow", "train --flow"), UNET))
    return model, _clip(folder, config, tensors, flow["text_tokens"]), vae


def _config(folder: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))


def _weights(folder: Path, name: str, command: str) -> dict[str, torch.Tensor]:
    file = folder / f"{name}.safetensors"
    if not file.exists():
        raise FileNotFoundError(
            f"The demo model is not in this install ({file.name} is missing). Install the pack "
            f"again, or train it with `python dev.py {command}`."
        )
    return {k: v.float() if v.is_floating_point() else v for k, v in load_file(file).items()}


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _model(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Any:
    family = DemoConfig(config["unet"])
    device = comfy.model_management.get_torch_device()
    family.set_inference_dtype(torch.float32, None)
    offload = comfy.model_management.unet_offload_device()
    model = comfy.model_base.BaseModel(family, comfy.model_base.ModelType.EPS, device=offload)
    model.load_model_weights(_part(tensors, UNET), "")
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=offload)


def _clip(
    folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor], states: int = 77
) -> Any:
    """The text encoder. states: how many of its 77 a model is shown, unless a prompt has more."""
    width = config["text"]["hidden_size"]

    class DemoTokens(comfy.sd1_clip.SDTokenizer):
        def __init__(self, embedding_directory: Any = None, tokenizer_data: Any = None) -> None:
            super().__init__(embedding_directory=embedding_directory, embedding_size=width)

    class DemoTokenizer(comfy.sd1_clip.SD1Tokenizer):
        def __init__(self, embedding_directory: Any = None, tokenizer_data: Any = None) -> None:
            super().__init__(embedding_directory=embedding_directory, tokenizer=DemoTokens)

    class DemoText(comfy.sd1_clip.SDClipModel):
        def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: Any = None):
            super().__init__(
                device=device,
                dtype=dtype,
                textmodel_json_config=str(folder / "text_config.json"),
                return_projected_pooled=False,
            )

        def forward(self, tokens: Any) -> Any:
            hidden, *others = super().forward(tokens)
            shown = states_needed(tokens, states, self.special_tokens["end"])
            return (hidden[:, :shown], *others)

    class DemoTextModel(comfy.sd1_clip.SD1ClipModel):
        def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: Any = None):
            super().__init__(device=device, dtype=dtype, clip_model=DemoText, model_options={})

    import folder_paths

    target = comfy.supported_models_base.ClipTarget(DemoTokenizer, DemoTextModel)
    clip = comfy.sd.CLIP(
        target,
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        model_options={"dtype": torch.float32},
    )
    weights = _part(tensors, TEXT + "transformer.")
    weights["text_model.embeddings.token_embedding.weight"] = _token_table(config, tensors)
    clip.cond_stage_model.clip_l.transformer.load_state_dict(weights, strict=True)
    return clip


def _token_table(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """The whole token table: trained rows as shipped, the rest drawn from a fixed seed."""
    shape = (config["text"]["vocab_size"], config["text"]["hidden_size"])
    table = torch.randn(shape, generator=torch.Generator().manual_seed(TOKEN_SEED)) * TOKEN_STD
    table[tensors[VOCABULARY].long()] = tensors[ROWS]
    return table


def _vae(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Any:
    """The host's VAE object around our autoencoder.

    The host's constructor knows only published autoencoders, so it is given its small TAESD
    and the network inside is exchanged, with the sizes that depend on it.
    """
    network = Autoencoder(config["latent_channels"], config["patch"]).eval()
    network.load_state_dict(_part(tensors, VAE_PART), strict=True)
    stand_in = comfy.taesd.taesd.TAESD(latent_channels=4).state_dict()
    vae = comfy.sd.VAE(sd=stand_in)
    vae.first_stage_model = network.requires_grad_(False)
    vae.latent_channels = config["latent_channels"]
    vae.vae_dtype = torch.float32
    vae.memory_used_encode = lambda shape, dtype: 500 * shape[2] * shape[3] * 4
    vae.memory_used_decode = lambda shape, dtype: 4000 * shape[2] * shape[3] * 64 * 4
    vae.size = None
    vae.patcher = comfy.model_patcher.ModelPatcher(
        network, load_device=vae.device, offload_device=comfy.model_management.vae_offload_device()
    )
    return vae
