"""What lies in the host's cache says how much memory it holds."""

from __future__ import annotations

import torch
from torch import Tensor

from host_support.edit_samples import BASE
from tverase_core.concept_set import Guide, concept_set
from tverase_core.inversion.inversion_set import InversionSet
from tverase_core.ports import Context
from tverase_core.tensors import memory_bytes
from tverase_core.vector.task_vector import TaskVector


def test_what_is_shared_counts_once_and_a_view_holds_the_whole() -> None:
    whole = torch.zeros(10, 100)
    assert memory_bytes([whole]) == 4000
    assert memory_bytes([whole[0], whole[1], whole.view(-1)]) == 4000
    assert memory_bytes([whole, whole.clone()]) == 8000
    assert memory_bytes([whole.to("meta")]) == 0
    assert memory_bytes([]) == 0


def test_a_vector_holds_its_deltas_as_narrow_as_they_are() -> None:
    deltas: dict[str, Tensor] = {"a": torch.ones(8, 4), "b": torch.ones(16)}
    assert TaskVector(deltas, BASE).get_ram_usage() == 4 * (32 + 16)
    narrow = {key: delta.bfloat16() for key, delta in deltas.items()}
    assert TaskVector(narrow, BASE).get_ram_usage() == 2 * (32 + 16)
    assert TaskVector({}, BASE).get_ram_usage() == 0


def test_a_concept_set_holds_pictures_and_every_text() -> None:
    latents, text = torch.ones(3, 4, 8, 8), Context(torch.ones(1, 5, 6), {"y": torch.ones(1, 7)})
    bare = concept_set("cat", latents, text)
    assert bare.get_ram_usage() == 4 * (3 * 256 + 2 * 37)  # the text, and as the empty caption
    guided = concept_set("cat", latents, text, text, Guide(text, text))
    assert guided.get_ram_usage() == 4 * (3 * 256 + 4 * 37)


def test_an_inversion_set_holds_vectors_and_rates() -> None:
    made = InversionSet(
        vectors={"l": torch.ones(2, 1, 6), "g": torch.ones(2, 1, 8)},
        losses=torch.ones(2),
        seeds=torch.arange(2),
        valid=torch.ones(2, dtype=torch.bool),
        concept="cat",
        template="{}",
        text_encoder="",
    )
    assert made.get_ram_usage() == 4 * 28 + 4 * 2 + 8 * 2 + 2
