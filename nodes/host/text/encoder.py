"""A CLIP as the core's `TextEncoder`: gradients flow through a private copy of it."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from types import MethodType
from typing import TYPE_CHECKING, Any

import comfy.clip_model
import comfy.model_patcher
import torch

from ....tverase_core.errors import BaseMismatchError, ConfigError, TextWidthError
from ....tverase_core.ports import Context
from ..model.conditioning import POOLED, rows_of, to_context
from ..model.weights import base_weight, effective_weight
from ..storage.view import view_of
from .tokens import tokens_of

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

KNOWN = ({"l"}, {"h"}, {"g"}, {"l", "g"})
# Attributes of modules in which ComfyUI's dynamic memory management (0.12 and newer) keeps pointers
# into memory of its own: they cannot be copied, or a copy frees the memory a second time.
HOSTS_OWN = re.compile(
    r"dynamic_\w+|_v|_v_\w+|_pins?|_pin_\w+|_prefetch|_comfy_graph|(weight|bias)_lowvram_function"
)
Row = list[Any]  # token numbers and embedding tensors, as the host's text models take them


class HostTextEncoder:
    """Implements `ports.TextEncoder` for CLIP towers: SD1 ("l"), SD2 ("h"), SDXL ("l" and "g").

    Works on a float32 copy of the text model, so that neither autograd nor the host's memory
    management meets the shared one. LoRAs on the CLIP and its clip skip are part of the copy.
    Raises BaseMismatchError for other text encoders.
    """

    def __init__(self, model: ModelPatcher, clip: Any):
        self._model, self._clip = model, clip
        # SDXL's context holds l before g, and its pooled output is g's
        self._towers = sorted(tokens_of(clip, ""), reverse=True)
        text_model = clip.cond_stage_model
        if set(self._towers) not in KNOWN or not all(
            isinstance(_tower(text_model, t).transformer, comfy.clip_model.CLIPTextModel)
            for t in self._towers
        ):
            raise BaseMismatchError(
                f"This CLIP has the text encoders {', '.join(self._towers)}. This node knows those "
                "of Stable Diffusion 1.x, 2.x and XL."
            )
        with torch.inference_mode(False):
            self._copy = private_copy(clip)

    def widths(self) -> Mapping[str, int]:
        return {t: self.vocabulary(t).shape[1] for t in self._towers}

    def vocabulary(self, tower: str) -> torch.Tensor:
        return _tower(self._copy, tower).transformer.get_input_embeddings().weight

    def word_vectors(self, word: str) -> Mapping[str, torch.Tensor]:
        with torch.inference_mode(False):
            return {t: self._embedded(t, self._words(word, t)) for t in self._towers}

    def last_tokens(self, texts: Sequence[str], tower: str) -> list[int]:
        return [self._last_token(text, tower) for text in texts]

    def _last_token(self, text: str, tower: str) -> int:
        # Split as `encode` splits it: its brackets are weights, a long one fills several rows.
        rows = tokens_of(self._clip, text, return_word_ids=True)[tower]
        words = [word for row in rows for _, _, word in row]  # 0 for marks and padding
        return max((i for i, word in enumerate(words) if word), default=0)

    def encode(self, texts: Sequence[str]) -> Context:
        """As CLIPTextEncode does, prompt weights and long prompts included."""
        with torch.inference_mode(False), torch.no_grad():
            self._reset()
            return to_context(self._model, self._encoded(texts))

    def _encoded(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        made = (self._copy.encode_token_weights(tokens_of(self._clip, t))[:2] for t in texts)
        return [{"cond": cond, POOLED: pooled} for cond, pooled in made]

    def encode_with(self, vectors: Mapping[str, torch.Tensor], template: str) -> Context:
        count = self._check(vectors)
        before, _, after = template.partition("{}")
        hidden, pooled = [], None
        with torch.inference_mode(False):
            self._reset()
            for tower in self._towers:
                words = self._words(before, tower), self._words(after, tower)
                rows = [self._row(tower, words, vectors[tower][k]) for k in range(count)]
                states, pooled = _tower(self._copy, tower).encode(rows)[:2]
                hidden.append(states)
            tokens = torch.cat(hidden, -1) if len(hidden) > 1 else hidden[0]
            return rows_of(self._model, tokens, **{POOLED: pooled})

    def _check(self, vectors: Mapping[str, torch.Tensor]) -> int:
        found = {tower: value.shape[-1] for tower, value in vectors.items()}
        if found != dict(self.widths()):
            raise TextWidthError(
                f"The embeddings have widths {found}, this CLIP has {dict(self.widths())}. Use the "
                "CLIP of the model they were made for."
            )
        return len(next(iter(vectors.values())))

    def _reset(self) -> None:
        self._copy.reset_clip_options()
        if self._clip.layer_idx is not None:
            self._copy.set_clip_options({"layer": self._clip.layer_idx})

    def _words(self, text: str, tower: str) -> Row:
        """The tokens of a text, between the start and the end mark."""
        rows = tokens_of(self._clip, text, disable_weights=True)[tower]
        end = self._empty(tower)[1]
        first = [token for token, *_ in rows[0]][1:]
        marks = [i for i, token in enumerate(first) if not torch.is_tensor(token) and token == end]
        if len(rows) > 1 or not marks:
            raise ConfigError(f"{text[:40]!r}... is longer than the text encoder's 77 tokens.")
        return first[: marks[0]]

    def _empty(self, tower: str) -> Row:
        return [token for token, *_ in tokens_of(self._clip, "")[tower][0]]

    def _row(self, tower: str, words: tuple[Row, Row], vectors: torch.Tensor) -> Row:
        start, end, *padding = self._empty(tower)
        inside = [*words[0], *vectors.to(self.vocabulary(tower).device).unbind(0), *words[1]]
        places = len(padding)
        if len(inside) > places:
            raise ConfigError(
                f"The template with {len(vectors)} vectors needs {len(inside)} tokens, the text "
                f"encoder takes {places}. Shorten the template or use fewer vectors."
            )
        return [start, *inside, end, *padding[len(inside) :]]

    def _embedded(self, tower: str, words: Row) -> torch.Tensor:
        table = self.vocabulary(tower)
        made = [w.float() if torch.is_tensor(w) else table[int(w)].cpu() for w in words]
        return torch.stack(made).clone() if made else table[:0].cpu().clone()


def private_copy(clip: Any) -> torch.nn.Module:
    """The text model in float32 with the CLIP's own patches in it, ready for gradients to pass."""
    made = _copied(clip.cond_stage_model)
    known = view_of(clip.patcher, "").shapes
    values = {key: _effective(clip.patcher, key) for key in known}
    for name, module in made.named_modules():
        comfy.model_patcher.wipe_lowvram_weight(module)
        if isinstance(module, comfy.clip_model.CLIPLayer):
            module.forward = MethodType(_layer_forward, module)
        for own in list(module._parameters):
            key = f"{name}.{own}" if name else own
            if module._parameters[own] is not None:
                value = values.get(key, module._parameters[own].detach())
                if own == "scale_weight":  # of "scaled fp8": the values are scaled already
                    value = torch.ones_like(value)
                fresh = value.to("cpu", torch.float32, copy=True)
                module._parameters[own] = torch.nn.Parameter(fresh, requires_grad=False)
    return made.eval().to(clip.patcher.load_device)


def _copied(text_model: torch.nn.Module) -> torch.nn.Module:
    """A deep copy that shares the parameters and has nothing of the host's memory management."""
    memo: dict[int, Any] = {id(value): value for value in text_model.parameters()}
    for module in text_model.modules():
        for name, value in vars(module).items():
            # True, None and numbers are single objects: a stand-in would replace them everywhere.
            if HOSTS_OWN.fullmatch(name) and not isinstance(value, int | None):
                memo[id(value)] = object()  # stands in for the value until it is deleted below
    made = copy.deepcopy(text_model, memo)
    for module in made.modules():
        for name in [name for name in vars(module) if HOSTS_OWN.fullmatch(name)]:
            delattr(module, name)
    return made


def _effective(patcher: ModelPatcher, key: str) -> torch.Tensor:
    if base_weight(patcher, key).element_size() < 2:
        raise BaseMismatchError(
            f"The text encoder's weight {key} is stored in 8 bits. Load the full checkpoint's CLIP."
        )
    return effective_weight(patcher, key)


def _layer_forward(self: Any, x: Any, mask: Any = None, optimized_attention: Any = None) -> Any:
    """The host's layer, but for adding out of place: autograd needs both sums."""
    x = x + self.self_attn(self.layer_norm1(x), mask, optimized_attention)
    return x + self.mlp(self.layer_norm2(x))


def _tower(text_model: Any, tower: str) -> Any:
    return getattr(text_model, f"clip_{tower}")
