"""Text encoders of ComfyUI's own classes, as its loaders make them, small and random.

Each has its family's own tokenizer, template and way to join several encoders; widths and depths
are small. Tokenizers that come with a model's file (Gemma's, Mistral's) are made here. `build`
needs the host on sys.path.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from unittest.mock import patch

import torch

from host_support import tiny_flow

WIDTH = 32  # as `tiny_flow`'s MODELs take it
QWEN, LLAMA, GEMMA, MISTRAL = 151_936, 128_256, 400, 400  # words in their tables
TEXTS = [
    "a cat on a mat",
    "a drawing of a grand piano in ink style",
    "two dogs and a horse, painted by hand",
    "the quick brown fox jumps over the lazy dog",
]


@dataclass(frozen=True)
class Family:
    """target: its (tokenizer, text model), as a loader of the host names them. keys: of its
    embeddings in files, with the widths of its full-sized encoders. options: what makes it small.
    model: the family of `tiny_flow` that reads it; unet: what that must have otherwise. template:
    around learned vectors."""

    target: Callable[[], Any]
    keys: dict[str, int]
    options: dict[str, Any]
    model: str
    unet: dict[str, Any] = field(default_factory=dict)
    template: str = "a {} on a mat"


def _language_model(vocabulary: int, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": WIDTH,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        **more,
    }


T5 = {
    "d_model": WIDTH,
    "d_ff": 96,
    "d_kv": 32,
    "num_heads": 2,
    "num_layers": 3,
    "vocab_size": 32_128,
    "dense_act_fn": "gelu_pytorch_tanh",
    "is_gated_act": True,
    "model_type": "t5",
}
CLIP = {
    "hidden_size": WIDTH,
    "intermediate_size": 96,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
}


def _target(module: str, tokenizer: str, model: str, *made: Any, **options: Any) -> Any:
    """(tokenizer class, text-model class) of comfy.text_encoders; `model` a class or its maker."""
    import importlib

    part = importlib.import_module(f"comfy.text_encoders.{module}")
    kind = getattr(part, model)
    return getattr(part, tokenizer), kind if isinstance(kind, type) else kind(*made, **options)


FAMILIES: dict[str, Family] = {
    "z-image": Family(
        lambda: _target("z_image", "ZImageTokenizer", "te"),
        {"qwen3_4b": 2560},
        {"qwen3_4b_model_config": _language_model(QWEN)},
        "z-image",
    ),
    "anima": Family(
        lambda: _target("anima", "AnimaTokenizer", "te"),
        {"qwen3_06b": 1024},
        {"qwen3_06b_model_config": _language_model(QWEN)},
        "anima",
    ),
    "qwen-image": Family(
        lambda: _target("qwen_image", "QwenImageTokenizer", "te"),
        {"qwen25_7b": 3584},
        {"qwen25_7b_model_config": _language_model(QWEN)},
        "qwen-image",
    ),
    "omnigen2": Family(
        lambda: _target("omnigen2", "Omnigen2Tokenizer", "te"),
        {"qwen25_3b": 2048},
        {"qwen25_3b_model_config": _language_model(QWEN)},
        "omnigen2",
    ),
    "lumina2": Family(
        lambda: _target("lumina2", "LuminaTokenizer", "te"),
        {"gemma2_2b": 2304},
        {"gemma2_2b_model_config": _language_model(GEMMA)},
        "lumina2",
    ),
    "flux2": Family(
        lambda: _target("flux", "Flux2Tokenizer", "flux2_te", pruned=True),
        {"mistral3_24b": 5120},
        {"mistral3_24b_model_config": _language_model(MISTRAL, num_hidden_layers=30)},
        "flux2",
        {"context_in_dim": 3 * WIDTH},  # of three layers
    ),
    "flux": Family(
        lambda: _target("flux", "FluxTokenizer", "flux_clip"),
        {"t5xxl": 4096, "clip_l": 768},
        {"t5xxl_model_config": T5, "clip_l_model_config": CLIP},
        "flux-dev",
    ),
    "sd3": Family(
        lambda: _target("sd3_clip", "SD3Tokenizer", "sd3_clip"),
        {"t5xxl": 4096, "clip_l": 768, "clip_g": 1280},
        # The host fills CLIP's states up to 4096, so that T5's must be as wide; the texts of the
        # tests are among T5's first words.
        {
            "t5xxl_model_config": {**T5, "d_model": 4096, "d_ff": 8, "vocab_size": 8000},
            "clip_l_model_config": CLIP,
            "clip_g_model_config": CLIP,
        },
        "sd3",
        {
            "adm_in_channels": 2 * WIDTH,
            "context_embedder_config": {
                "target": "torch.nn.Linear",
                "params": {"in_features": 4096, "out_features": 128},
            },
        },
    ),
    "chroma": Family(
        lambda: _target("pixart_t5", "PixArtTokenizer", "pixart_te"),
        {"t5xxl": 4096},
        {"t5xxl_model_config": T5},
        "chroma",
        template="an ink {}",
    ),
    "auraflow": Family(
        lambda: _target("aura_t5", "AuraT5Tokenizer", "AuraT5Model"),
        {"pile_t5xl": 2048},
        {"pile_t5xl_model_config": T5},
        "auraflow",
    ),
    "hidream": Family(
        lambda: _target("hidream", "HiDreamTokenizer", "hidream_clip"),
        {"t5xxl": 4096, "llama": 4096, "clip_l": 768, "clip_g": 1280},
        {
            "t5xxl_model_config": T5,
            "llama_model_config": _language_model(LLAMA),
            "clip_l_model_config": CLIP,
            "clip_g_model_config": CLIP,
        },
        "hidream",
        {"text_emb_dim": 2 * WIDTH},
    ),
}


# Of these the host reads no exported embedding: it compares every token with a number, or makes a
# number of each, which no vector can be. What it says then.
UNREAD = {"qwen-image": "ambiguous", "anima": "only integer tensors"}


def known(name: str) -> bool:
    """Whether this host has the family's MODEL."""
    import comfy.supported_models

    return hasattr(comfy.supported_models, tiny_flow.FAMILIES[FAMILIES[name].model].config)


def build(
    name: str,
    dtype: torch.dtype = torch.float32,
    folder: str = "",
    seed: int = 1,
    **more: Any,
) -> Any:
    """A CLIP of that family as a loader makes it, filled from the seed. folder: where the host is
    told that embeddings are; not all of its tokenizers pass it on. more: the host's options."""
    import comfy.sd
    import comfy.supported_models_base

    from host_support.tiny_host import fill

    family = FAMILIES[name]
    target = comfy.supported_models_base.ClipTarget(*family.target())
    small = {key: dict(value) for key, value in family.options.items()}
    options = {"dtype": dtype, **small, **more}
    with torch.inference_mode(), _small_eye() if name == "qwen-image" else nullcontext():
        clip = comfy.sd.CLIP(
            target,
            embedding_directory=[folder] if folder else None,
            tokenizer_data={"spiece_model": _sentence_pieces(), "tekken_model": _tekken()},
            model_options=options,
        )
        fill(clip.cond_stage_model, seed)
    return clip


def _small_eye() -> AbstractContextManager[Any]:
    """While open, Qwen2.5-VL is made with next to no eye; it has no option for that."""
    from comfy.text_encoders import qwen_vl

    eye = qwen_vl.Qwen2VLVisionTransformer

    def small(**options: Any) -> Any:
        return eye(**{**options, "hidden_size": WIDTH, "num_layers": 0})

    return patch.object(qwen_vl, eye.__name__, small)


def build_model(name: str) -> Any:
    """A MODEL of the family, small, that takes what `build` gives."""
    return tiny_flow.build(FAMILIES[name].model, unet=FAMILIES[name].unet)


@cache
def _sentence_pieces() -> torch.Tensor:
    """A sentencepiece model of a few hundred words, as Gemma's files hold one."""
    import sentencepiece

    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 20),
        model_writer=made,
        vocab_size=100,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        minloglevel=2,
    )
    return torch.frombuffer(bytearray(made.getvalue()), dtype=torch.uint8)


@cache
def _tekken() -> torch.Tensor:
    """A tokenizer in Mistral's format: every byte a word, and its marks."""
    marks = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"]
    marks += [f"<SPECIAL_{number}>" for number in range(len(marks), 12)]
    tokenizer = {
        "config": {"default_vocab_size": 256 + 12, "default_num_special_tokens": 12},
        "vocab": [
            {"rank": rank, "token_bytes": base64.b64encode(bytes([rank])).decode()}
            for rank in range(256)
        ],
        "special_tokens": [
            {"rank": rank, "token_str": mark, "is_control": True} for rank, mark in enumerate(marks)
        ],
    }
    return torch.frombuffer(bytearray(json.dumps(tokenizer).encode()), dtype=torch.uint8)
