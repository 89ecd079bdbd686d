"""The families: what ComfyUI's templates load and how they draw, and our estimates."""

from __future__ import annotations

from workflows.flow_family import Family, Memory, sampler

NEWER_HOST = "Needs a ComfyUI of 2026: 0.3.75 cannot load its text encoder, 0.33 can."
NEWER_MODEL = "Needs a ComfyUI of 2026: 0.3.75 does not know the model, 0.33 does."
QWEN_3_4B = "qwen_3_4b.safetensors"
T5_AND_CLIP = {"clip_name1": "clip_l.safetensors", "clip_name2": "t5xxl_fp16.safetensors"}

FAMILIES: dict[str, Family] = {
    "erase_concept_z_image": Family(
        title="Z-Image, for use in Turbo",
        lead="Takes **{concept}** out of Z-Image-Turbo.",
        file="z_image_bf16.safetensors",
        billions=6.15,
        memory=Memory(11.5, 3.5, 23),
        draw=sampler(25, 4.0, "res_multistep"),
        encoder=("CLIPLoader", {"clip_name": QWEN_3_4B, "type": "lumina2"}),
        vae="ae.safetensors",
        shift=3.0,
        strength=0.4,
        used=("z_image_turbo_bf16.safetensors", sampler(8, 1.0, "res_multistep")),
    ),
    "erase_concept_qwen_image": Family(
        title="Qwen-Image",
        lead="Takes **{concept}** out of Qwen-Image.",
        file="qwen_image_2512_fp8_e4m3fn.safetensors",
        billions=20.4,
        memory=Memory(19, 4.3, 17),
        draw=sampler(50, 4.0, "euler"),
        size=1328,
        encoder=(
            "CLIPLoader",
            {"clip_name": "qwen_2.5_vl_7b_fp8_scaled.safetensors", "type": "qwen_image"},
        ),
        vae="qwen_image_vae.safetensors",
        shift=3.1,
        attention=True,
    ),
    "erase_concept_flux1": Family(
        title="FLUX.1 dev",
        lead="Takes **{concept}** out of FLUX.1 dev.",
        file="flux1-dev.safetensors",
        billions=11.9,
        memory=Memory(22.2, 3.5, 21),
        draw=sampler(20, 1.0, "euler"),
        encoder=("DualCLIPLoader", {**T5_AND_CLIP, "type": "flux"}),
        vae="ae.safetensors",
        attention=True,
        extra="**A card of 24 GB** holds less than weights and training together. There set "
        "**weight_dtype** of *Load Diffusion Model* to *fp8_e4m3fn*, or load an fp8 file: the "
        "weights then take about 11 GiB. Such weights can be trained: tests do it on tiny models, "
        "on this one nobody has measured it.",
    ),
    "erase_concept_flux2_klein": Family(
        title="FLUX.2 Klein 4B",
        lead="Takes **{concept}** out of FLUX.2 Klein.",
        file="flux-2-klein-base-4b.safetensors",
        billions=3.88,
        memory=Memory(7.2, 3.6, 14),
        draw=sampler(20, 5.0, "euler"),
        encoder=("CLIPLoader", {"clip_name": QWEN_3_4B, "type": "flux2"}),
        vae="flux2-vae.safetensors",
        latent="EmptyFlux2LatentImage",
        strength=0.4,
        used=("flux-2-klein-4b.safetensors", sampler(4, 1.0, "euler")),
        host=NEWER_HOST,
        extra="ComfyUI's template draws with *Flux2Scheduler*, which spaces the steps a little "
        "otherwise than *simple* does.",
    ),
    "erase_concept_sd35": Family(
        title="Stable Diffusion 3.5 Large",
        lead="Takes **{concept}** out of Stable Diffusion 3.5 Large.",
        file="sd3.5_large_fp8_scaled.safetensors",
        billions=8.06,
        memory=Memory(7.5, 1.8, 6.7),
        draw=sampler(20, 4.0, "euler", "sgm_uniform"),
        attention=True,
    ),
    "erase_concept_anima": Family(
        title="Anima",
        lead="Takes **{concept}** out of Anima.",
        file="anima-base-v1.0.safetensors",
        billions=2.09,
        memory=Memory(3.9, 2.1, 7.8),
        draw=sampler(30, 4.0, "euler"),
        encoder=(
            "CLIPLoader",
            {"clip_name": "qwen_3_06b_base.safetensors", "type": "stable_diffusion"},
        ),
        vae="qwen_image_vae.safetensors",
        latent="EmptyLatentImage",
        host=NEWER_MODEL,
    ),
}
