"""A merge is a base of its own: it passes for another model only where it is that model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from host_support.vector_steps import vector_for
from tverase_core.errors import BaseMismatchError

Make = Callable[..., Any]


def merge(name: str, *given: Any, **more: Any) -> Any:
    import comfy_extras.nodes_model_merging as merging

    with torch.inference_mode():
        return getattr(merging, name)().merge(*given, **more)[0]


def erased(pack: Any, model: Any, vector: Any, other_weights: str = "refuse") -> Any:
    from host_support.host_steps import node

    given = {"task_vector": vector, "strength": 1.0, "other_weights": other_weights}
    return node(pack, "ApplyNegatedTV", model=model, **given)[0]


MERGES = {
    "all of the other": lambda a, b: merge("ModelMergeSimple", a, b, 0.0),
    "half and half": lambda a, b: merge("ModelMergeSimple", a, b, 0.5),
    "one block of the other": lambda a, b: merge(
        "ModelMergeBlocks", a, b, input=1.0, middle=0.0, out=1.0
    ),
    "a sum": lambda a, b: merge("ModelAdd", a, b),
    "a difference": lambda a, b: merge("ModelSubtract", a, b, 1.0),
}


@pytest.mark.parametrize("kind", MERGES)
@pytest.mark.parametrize("storage", [torch.float32, torch.float16])
def test_a_merge_is_not_its_first_model(
    pack: Any, make_tiny_model: Make, kind: str, storage: torch.dtype
) -> None:
    from host_support.host_steps import same, weights

    first, other = make_tiny_model(storage=storage), make_tiny_model(storage=storage, seed=5)
    held, vector = weights(first), vector_for(first)
    merged = MERGES[kind](first, other)
    with pytest.raises(BaseMismatchError, match="different weights"):
        erased(pack, merged, vector)
    assert erased(pack, merged, vector, "allow").patches
    assert same(weights(first), held)


@pytest.mark.parametrize("storage", [torch.float32, torch.float16])
def test_what_is_a_model_to_the_bit_is_that_model(
    pack: Any, make_tiny_model: Make, storage: torch.dtype
) -> None:
    first, other = make_tiny_model(storage=storage), make_tiny_model(storage=storage, seed=5)
    assert erased(pack, merge("ModelMergeSimple", first, other, 1.0), vector_for(first)).patches
    assert erased(pack, merge("ModelMergeSimple", first, first, 0.5), vector_for(first)).patches
    assert erased(pack, merge("ModelMergeSimple", first, other, 0.0), vector_for(other)).patches


def test_a_lora_on_a_merge_is_an_edit_of_it(pack: Any, make_tiny_model: Make) -> None:
    """A vector of the merge fits the merge with a LoRA, as with any base."""
    from tverase_pack.nodes.host.model.patching import patched_clone

    first, other = make_tiny_model(), make_tiny_model(seed=5)
    merged = merge("ModelMergeSimple", first, other, 0.5)
    vector = vector_for(merged)
    styled = patched_clone(merged, {0.5: vector.deltas})
    assert vector_for(styled).base == vector.base
    assert erased(pack, styled, vector).patches
