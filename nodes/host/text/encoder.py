"""A CLIP as the core's `TextEncoder`: gradients flow through a private copy of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import comfy.model_management
import torch

from ....tverase_core.errors import BaseMismatchError, TextWidthError
from ....tverase_core.ports import Context
from ..model.conditioning import POOLED, to_context
from ..network.backward import differentiable
from ..storage.formats import values
from ..training.recompute import recomputed, stacks_of
from .copies import private_copy
from .splice import Rows, filled, marked_rows
from .tokens import tokens_of
from .towers import Tower, refuse_other_family, towers_of

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
        return [self._conditioning(self._tokens(text)) for text in texts]

    def encode_with(self, vectors: Mapping[str, torch.Tensor], template: str) -> Context:
        count = self._check(vectors)
        each = next(iter(vectors.values())).shape[1]
        towers = tuple(self._towers.values())
        if (template, each) not in self._templates:
            self._templates[template, each] = marked_rows(self._clip, towers, template, each)
        rows = self._templates[template, each]
        items = [
            filled(rows, towers, {name: value[k] for name, value in vectors.items()})
            for k in range(count)
        ]
        with autograd_as_it_is():
            self._ready()
            with self._for_gradients(), self._in_one_pass(items):
                return to_context(self._model, [self._conditioning(item) for item in items])

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

    @contextmanager
    def _for_gradients(self) -> Iterator[None]:
        """The host's passes made fit for a backward pass. Language models keep what enters their
        blocks and nothing more: the host computes them in float32, and autograd would keep a
        float32 copy of every weight."""
        with ExitStack() as open_while:
            if torch.is_grad_enabled():
                open_while.enter_context(differentiable(self._copy))
                for tower in self._towers.values():
                    if not tower.is_clip:
                        part = tower.of(self._copy)
                        open_while.enter_context(recomputed(part, stacks_of(part)))
            yield

    @contextmanager
    def _in_one_pass(self, items: Sequence[Mapping[str, Rows]]) -> Iterator[None]:
        """Each tower encodes the items together, and then hands out their states one by one to the
        host, which joins those of several towers and cuts templates off."""
        covered = []
        try:
            for tower in self._towers.values():
                part, first = tower.of(self._copy), items[0][tower.place]
                if len(first) == 1 and all(weight == 1.0 for _, weight in first[0]):
                    rows = [[token for token, _ in item[tower.place][0]] for item in items]
                    states = _Queue(part.encode(rows), len(rows))
                    part.encode = states.next
                    covered.append(part)
            yield
        finally:
            for part in covered:
                del part.encode

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


@contextmanager
def autograd_as_it_is() -> Iterator[None]:
    """Out of inference mode, which alone would also switch gradients on."""
    wanted = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.set_grad_enabled(wanted):
        yield


class _Queue:
    """Gives what one pass made of n rows, row by row, as `encode` would of each."""

    def __init__(self, made: tuple[Any, ...], count: int):
        self._made, self._left = made, iter(range(count))

    def next(self, rows: Any) -> tuple[Any, ...]:
        here = slice((k := next(self._left)), k + 1)
        states, pooled, *rest = self._made
        extra = [{name: value[here] for name, value in part.items()} for part in rest]
        return (states[here], None if pooled is None else pooled[here], *extra)


def _sentence(tower: Tower, text: str) -> list[Any]:
    """The text's tokens, without marks, padding and templates."""
    rows = tower.tokenizer.tokenize_with_weights(text, return_word_ids=True, disable_weights=True)
    return [token for row in rows for token, _, word in row if word]
