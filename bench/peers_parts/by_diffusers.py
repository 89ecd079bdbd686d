"""Plain loops on diffusers, peft and transformers, by the settings of their published scripts.

AdamW at its defaults of those scripts (weight decay 0.01), a constant rate, gradient norm 1, MSE to
the noise, timesteps uniform; no moving average, no mixed precision, and but for `lean` no gradient
checkpointing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from peft import LoraConfig
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tverase_core.files.diffusers_names import diffusers_names

from .clock import StepClock, endless
from .sizes import ASKED, ATTENTION, GIVEN_FILE, RANK, TEXT_FILE, UNET_FILE, Place

TRAIN_STEPS = 1000
WORD = "<learned>"


def whole(place: Place) -> dict[str, Any]:
    """Every weight, as train_text_to_image.py."""
    return _tuned(place, _unet(place))


def lean(place: Place) -> dict[str, Any]:
    """The same with the script's `--use_8bit_adam` and `--gradient_checkpointing`."""
    from bitsandbytes.optim import AdamW8bit

    unet = _unet(place)
    unet.enable_gradient_checkpointing()
    return _tuned(place, unet, AdamW8bit)


def attention(place: Place) -> dict[str, Any]:
    """A LoRA on the projections of attention, as train_text_to_image_lora.py."""
    return _with_lora(place, _unet(place), list(ATTENTION))


def matrices(place: Place) -> dict[str, Any]:
    """The same on every matrix and convolution, which is what our rank covers."""
    unet = _unet(place)
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    return _with_lora(place, unet, [n for n, m in unet.named_modules() if isinstance(m, kinds)])


def _with_lora(place: Place, unet: UNet2DConditionModel, targets: list[str]) -> dict[str, Any]:
    unet.requires_grad_(False)
    unet.add_adapter(
        LoraConfig(r=RANK, lora_alpha=RANK, init_lora_weights="gaussian", target_modules=targets)
    )
    return _tuned(place, unet)


def _tuned(
    place: Place, unet: UNet2DConditionModel, kind: Any = torch.optim.AdamW
) -> dict[str, Any]:
    learned = [p for p in unet.parameters() if p.requires_grad]
    optimizer = kind(learned, lr=1e-5, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8)
    given, scheduler = load_file(place.material / GIVEN_FILE), _scheduler()
    text = given["empty"].expand(place.size.pictures, -1, -1)
    unet.train()

    def step() -> None:
        _loss(unet, scheduler, given["latents"], text).backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return endless(step, StepClock(place.timed))


def inversion(place: Place) -> dict[str, Any]:
    """One word learned alone, as textual_inversion.py: AdamW on the table of all words, all but the
    new one put back after each step."""
    tokenizer = CLIPTokenizer.from_pretrained(place.comfyui / "comfy" / "sd1_tokenizer")
    tokenizer.add_tokens(WORD)
    encoder, unet, scheduler = _encoder(place), _unet(place), _scheduler()
    unet.requires_grad_(False)
    encoder.requires_grad_(False)
    encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    table = encoder.get_input_embeddings().weight.requires_grad_()
    number = tokenizer.convert_tokens_to_ids(WORD)
    before, others = table.detach().clone(), torch.arange(len(table)) != number
    told = tokenizer(
        [f"a {WORD}"] * place.size.each,
        padding="max_length",
        max_length=place.size.tokens,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    assert int((told == number).sum()) == place.size.each
    optimizer = torch.optim.AdamW([table], lr=5e-4, weight_decay=1e-2, eps=1e-8)
    latents = load_file(place.material / GIVEN_FILE)["small"]
    encoder.train()

    def step() -> None:
        shown = latents[torch.randint(len(latents), (place.size.each,))]
        _loss(unet, scheduler, shown, encoder(told)[0]).backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            table[others] = before[others]

    return endless(step, StepClock(place.timed))


def prediction(place: Place) -> list[float]:
    """What the network says of the first latent at an early and a late timestep, all in a row."""
    given, unet = load_file(place.material / GIVEN_FILE), _unet(place).eval()
    latents = given["small"][:1].expand(len(ASKED), -1, -1, -1)
    text = given["empty"].expand(len(ASKED), -1, -1)
    with torch.no_grad():
        made = unet(latents, torch.tensor(ASKED), text, return_dict=False)[0]
    return list(made.flatten().tolist())


def _loss(
    unet: UNet2DConditionModel, scheduler: DDPMScheduler, latents: Tensor, text: Tensor
) -> Tensor:
    noise = torch.randn_like(latents)
    timesteps = torch.randint(TRAIN_STEPS, (len(latents),))
    noisy = scheduler.add_noise(latents, noise, timesteps)
    predicted = unet(noisy, timesteps, text, return_dict=False)[0]
    return functional.mse_loss(predicted.float(), noise.float())


def _scheduler() -> DDPMScheduler:
    return DDPMScheduler(
        TRAIN_STEPS, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
    )


def _unet(place: Place) -> UNet2DConditionModel:
    """In float32, as weights that AdamW moves must be."""
    stored = load_file(place.material / UNET_FILE)
    names = diffusers_names(key.removeprefix("model.") for key in stored)
    made = UNet2DConditionModel(**place.size.unet)
    made.load_state_dict({name: stored[f"model.{key}"] for name, key in names.items()})
    return made


def _encoder(place: Place) -> CLIPTextModel:
    made = CLIPTextModel(CLIPTextConfig(**place.size.text))
    stored = load_file(place.material / TEXT_FILE)
    made.load_state_dict(dict(_named(made.state_dict(), stored)))
    return made


def _named(wanted: Iterable[str], stored: dict[str, Tensor]) -> Iterable[tuple[str, Tensor]]:
    """Newer versions of transformers leave `text_model.` out of the names."""
    for name in wanted:
        yield name, stored[f"text_model.{name.removeprefix('text_model.')}"]
