"""A CLIP as the core's `TextEncoder`: gradients flow through a private copy of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import comfy.model_management
import torch

from ....tverase_core.errors import BaseMismatchError, TextWidthError
from ....tverase_core.ports import Context
from ..app.version import host_version
from ..model.conditioning import POOLED, to_context
from ..storage.formats import values
from .copies import private_copy
from .passes import autograd_as_it_is, for_gradients, in_one_pass
from .splice import Rows, filled, marked_rows
from .tokens import tokens_of
from .towers import Tower, lacking_towers, refuse_cut, refuse_other_family, towers_of

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


class HostTextEncoder:
    """Implements `ports.TextEncoder` for every text encoder of the host that turns words into
    vectors of a table: CLIP, T5 and language models, alone or several together.

    Works on a copy of the text model's modules, so that neither autograd nor the host's memory
    management meets the shared ones; the weights are shared and stay as the host holds them.
    LoRAs on the CLIP and its clip skip are part of the copy. Raises BaseMismatchError for other
    text encoders, and for those of another family than the MODEL.
    """

    def __init__(self, model: ModelPatcher, clip: Any, dtype: torch.dtype | None = None):
        self._model, self._clip = model, clip
        self._towers = {tower.name: tower for tower in towers_of(clip)}
        refuse_other_family(model, clip)
        self._templates: dict[tuple[str, int], Mapping[str, Rows]] = {}
        with torch.inference_mode(False):
            self._patcher = private_copy(clip, dtype)
        self._copy: torch.nn.Module = self._patcher.model

    def widths(self) -> Mapping[str, int]:
        return {t: self.vocabulary(t).shape[1] for t in self._towers}

    def vocabulary(self, tower: str) -> torch.Tensor:
        table = self._towers[tower].table(self._copy)
        return values(table, "weight", table.weight)

    def word_vectors(self, word: str) -> Mapping[str, torch.Tensor]:
        self._tokens(word)  # complains of embeddings that are not there
        with torch.inference_mode(False):
            return {name: self._embedded(name, word) for name in self._towers}

    def last_tokens(self, texts: Sequence[str], tower: str) -> list[int]:
        if self._last_token("", tower):
            raise BaseMismatchError(
                f"The text encoder {tower} puts every prompt into a template for chat, in which "
                "this node does not know where a prompt's last word is. Expected a MODEL that "
                "reads CLIP or T5."
            )
        return [self._last_token(text, tower) for text in texts]

    def _last_token(self, text: str, tower: str) -> int:
        # Split as `encode` splits it: its brackets are weights, a long one fills several rows.
        rows = self._tokens(text, return_word_ids=True)[self._towers[tower].place]
        words = [word for row in rows for _, _, word in row]  # 0 for marks and padding
        return max((i for i, word in enumerate(words) if word), default=0)

    def encode(self, texts: Sequence[str]) -> Context:
        """As CLIPTextEncode does, prompt weights and long prompts included."""
        with torch.inference_mode(False), torch.no_grad():
            self._ready()
            return to_context(self._model, self._encoded(texts))

    def _encoded(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        return [self._conditioning(self._whole(text)) for text in texts]

    def _whole(self, text: str) -> dict[str, Any]:
        """Its tokens. Raises ConfigError where the host would leave some out."""
        tokens = self._tokens(text)
        for tower in self._towers.values():
            refuse_cut(tower, tokens[tower.place], text)
        return tokens

    def encode_with(
        self, vectors: Mapping[str, torch.Tensor], template: str | Sequence[str]
    ) -> Context:
        count, towers = self._check(vectors), tuple(self._towers.values())
        each = next(iter(vectors.values())).shape[1]
        told = [template] * count if isinstance(template, str) else template
        for text in dict.fromkeys(told):
            if (text, each) not in self._templates:
                self._templates[text, each] = marked_rows(self._clip, towers, text, each)
        items = [
            filled(self._templates[text, each], towers, {n: v[k] for n, v in vectors.items()})
            for k, text in enumerate(told)
        ]
        with autograd_as_it_is():
            self._ready()
            with for_gradients(self._copy, towers), in_one_pass(self._copy, towers, items):
                return to_context(self._model, [self._conditioning(item) for item in items])

    def remarks(self) -> tuple[str, ...]:
        """What who learns vectors here should know; nothing of CLIP alone."""
        towers = self._towers.values()
        lacking = lacking_towers(self._clip)
        if all(tower.is_clip for tower in towers) and not lacking:
            return ()
        widths = ", ".join(f"{name} ({width} wide)" for name, width in self.widths().items())
        made = [f"learned in the text encoders {widths}"]
        if lacking:
            made.append(
                f"nothing is learned in {', '.join(sorted(lacking))}: the family has such a text "
                "encoder, this CLIP has none"
            )
        unread = [tower.name for tower in towers if not tower.reads_embeddings]
        if unread:
            made.append(
                f"ComfyUI {host_version()} looks for no embedding:name in prompts to "
                f"{', '.join(unread)}: exported files do nothing there, Load Inversion Set works"
            )
        return tuple(made)

    def _check(self, vectors: Mapping[str, torch.Tensor]) -> int:
        found = {tower: value.shape[-1] for tower, value in vectors.items()}
        if found != dict(self.widths()):
            raise TextWidthError(
                f"The embeddings have widths {found}, this CLIP has {dict(self.widths())}. Use the "
                "CLIP of the model they were made for."
            )
        return len(next(iter(vectors.values())))

    def _tokens(self, text: str, **options: Any) -> dict[str, Any]:
        return tokens_of(self._clip, text, **options)

    def _ready(self) -> None:
        """The copy is loaded, its options are those of the CLIP."""
        patcher = self._patcher
        if self._copy.current_weight_patches_uuid != patcher.patches_uuid:
            comfy.model_management.load_models_gpu([patcher])
        self._copy.reset_clip_options()
        layer = {} if self._clip.layer_idx is None else {"layer": self._clip.layer_idx}
        self._copy.set_clip_options({"execution_device": patcher.load_device, **layer})

    def _conditioning(self, tokens: Mapping[str, Rows]) -> dict[str, Any]:
        cond, pooled, *rest = self._copy.encode_token_weights(tokens)
        return {"cond": cond, POOLED: pooled, **(rest[0] if rest else {})}

    def _embedded(self, name: str, word: str) -> torch.Tensor:
        """The word's vectors as it stands in a sentence: language models know "cat" and " cat"
        as two words."""
        tower = self._towers[name]
        tokens = _sentence(tower, f"a {word}")[len(_sentence(tower, "a")) :]
        table = tower.table(self._copy)
        device, float32 = table.weight.device, torch.float32
        made = [torch.zeros(0, self.widths()[name])] + [
            token.float()[None]
            if torch.is_tensor(token)
            else table(torch.tensor([token], device=device), out_dtype=float32).cpu()
            for token in tokens
        ]
        return torch.cat(made)


def _sentence(tower: Tower, text: str) -> list[Any]:
    """The text's tokens, without marks, padding and templates."""
    rows = tower.tokenizer.tokenize_with_weights(text, return_word_ids=True, disable_weights=True)
    return [token for row in rows for token, _, word in row if word]
