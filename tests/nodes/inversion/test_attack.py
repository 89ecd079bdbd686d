"""Concept Inversion Attack on the real host: what it says of edits, and what it refuses to say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tverase_core.errors import (
    BaseMismatchError,
    ConfigError,
    InversionError,
    JudgeError,
    NonFiniteError,
)

pytestmark = pytest.mark.training
SMALL = {"attacks": 2, "steps": 3, "pictures_per_step": 2, "checks": 4, "start": "cat"}


@pytest.fixture
def model(pack: Any, make_tiny_model: Any) -> Any:
    return make_tiny_model(storage=torch.float32)


def attack(pack: Any, edited: Any, base: Any, clip: Any, judge: Any = None, **changes: Any) -> Any:
    """(attack, base_attack, pictures, report), run as the host runs it."""
    from host_support import attack_steps as world
    from host_support.host_steps import node, pictures

    node_class = pack.NODE_CLASS_MAPPINGS["TVEraseConceptInversionAttack"]
    given = world.defaults(node_class, **{**world.DRAWING, **SMALL})
    parts = {"model": edited, "base": base, "clip": clip, "vae": world.FlatVAE()}
    parts |= {"concept_set": pictures(), "judge": judge or world.MeanJudge()}
    return node(pack, "ConceptInversionAttack", **{**parts, **given, **changes})


def erased(pack: Any, model: Any, strength: float = 1.0) -> Any:
    """Bright pictures: the judge sees no cat."""
    from host_support.attack_steps import bright_vector
    from host_support.host_steps import node

    given = {"task_vector": bright_vector(model, 5.0), "other_weights": "refuse"}
    return node(pack, "ApplyNegatedTV", model=model, strength=strength, **given)[0]


def scaled(factor: float) -> Any:
    """The tiny model with each of its weights that much larger."""
    from host_support import tiny_host

    made = tiny_host.build_model(storage=torch.float32)
    with torch.inference_mode():
        for weight in made.model.diffusion_model.parameters():
            weight.mul_(factor)
    return made


class SeesNothingInAttacks:
    """Fires on the first pictures alone, which are those of the base's plain prompt."""

    def __init__(self) -> None:
        self.asked = 0

    def score(self, images: Tensor, concept: str) -> Tensor:
        self.asked += 1
        return torch.full((len(images),), float(self.asked == 1))


def test_an_edit_that_holds_an_edit_that_does_not(pack: Any, model: Any, tiny_clip: Any) -> None:
    from host_support.host_steps import same, weights

    before = weights(model)
    found, base, pictures, text = attack(pack, erased(pack, model), model, tiny_clip)
    assert found.hit_rates.tolist() == [0, 0]
    assert base.hit_rates.tolist() == [0.75, 0.75]
    told = text.splitlines()
    assert told[0] == (
        "'cat' under attack: 0 of 8 pictures (0.0% to 32.4%); "
        "on the base: 6 of 8 pictures (40.9% to 92.9%)"
    )
    assert told[1] == "worst attack: at most 49.0%"
    assert told[2] == "plain prompt: 0% of pictures; on the base 75%"
    assert told[3].startswith("2 attacks: 3 steps of 2 pictures = 6 views each, 4 pictures judged")
    assert len(told) == 4
    assert pictures.ndim == 4
    assert not torch.equal(found.vectors["l"], base.vectors["l"])  # each was searched in its model
    kept, _, _, text = attack(pack, erased(pack, model, 1e-4), model, tiny_clip)
    assert kept.hit_rates.tolist() == [0.75, 0.75]
    assert "'cat' under attack: 6 of 8 pictures" in text
    assert same(weights(model), before)


def test_the_bases_attack_is_used_again(
    pack: Any, model: Any, tiny_clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tverase_pack.nodes.inversion import attack as module

    searched: list[Any] = []
    real = module.concept_inversion
    monkeypatch.setattr(
        module, "concept_inversion", lambda *w, **m: searched.append(w[0]) or real(*w, **m)
    )
    edited = erased(pack, model)
    first = attack(pack, edited, model, tiny_clip)
    again = attack(pack, edited, model, tiny_clip, base_attack=first[1])
    assert len(searched) == 3
    assert again[3] == first[3]
    assert again[1] is first[1]
    for changes in ({"seed": 1}, {"cfg": 2.0}, {"checks": 5}, {"budget": "quick", "steps": 4}):
        with pytest.raises(ConfigError, match="Disconnect `base_attack`"):
            attack(pack, edited, model, tiny_clip, base_attack=first[1], **changes)
    near = scaled(1.001)
    with pytest.raises(ConfigError, match="Disconnect `base_attack`"):
        attack(pack, edited, near, tiny_clip, base_attack=first[1])
    assert len(searched) == 3  # refused before any search
    loose = {"at_once": 1, "pictures_at_once": 1}
    assert attack(pack, edited, model, tiny_clip, base_attack=first[1], **loose)[1] is first[1]


def test_attacks_that_fail_on_the_base_are_invalid(pack: Any, model: Any, tiny_clip: Any) -> None:
    """Never a sign that the edit holds."""
    judge = SeesNothingInAttacks()
    with pytest.raises(InversionError, match=r"Invalid: none of 2 attacks .* prove nothing"):
        attack(pack, erased(pack, model), model, tiny_clip, judge)
    assert judge.asked == 2  # the plain prompt and the base's attacks; `model` was left alone


def test_one_that_fails_there_does_not_count(pack: Any, model: Any, tiny_clip: Any) -> None:
    edited = erased(pack, model)
    base = attack(pack, edited, model, tiny_clip)[1]
    from dataclasses import replace

    half = replace(base, hit_rates=torch.tensor([0.25, 1.0]), valid=torch.tensor([False, True]))
    text = attack(pack, edited, model, tiny_clip, base_attack=half)[3]
    assert "0 of 4 pictures (0.0% to 49.0%); on the base: 4 of 4" in text
    assert "attacks 1 are invalid: they fail on the base too, and do not count" in text


def test_a_judge_that_is_blind_on_the_base_and_a_name_it_does_not_know(
    pack: Any, model: Any, tiny_clip: Any
) -> None:
    from dataclasses import replace

    from host_support.attack_steps import BlindJudge, MeanJudge
    from host_support.host_steps import pictures

    with pytest.raises(JudgeError, match="fired on none of 4 pictures that the base model drew"):
        attack(pack, erased(pack, model), model, tiny_clip, BlindJudge())
    shown = replace(pictures(), concept="wolf")
    with pytest.raises(JudgeError, match="does not know 'wolf'"):
        attack(pack, model, model, tiny_clip, MeanJudge(), concept_set=shown)


def test_another_base_is_refused_and_another_state_of_it_is_told(
    pack: Any, model: Any, make_tiny_model: Any, tiny_clip: Any
) -> None:
    from host_support import attack_steps as world

    with pytest.raises(BaseMismatchError, match="Connect the MODEL that `model` was made from"):
        attack(pack, world.tiny_sdxl()[0], model, tiny_clip)
    stranger = make_tiny_model(storage=torch.float32, seed=9)
    with pytest.raises(BaseMismatchError, match=r"weights are 1\d\d% apart"):
        attack(pack, stranger, model, tiny_clip)
    text = attack(pack, scaled(1.02), model, tiny_clip)[3]
    assert "the two MODELs hold other weights, 2.0% apart in a sample of them" in text


def test_mistakes_are_told_in_a_sentence(pack: Any, model: Any, tiny_clip: Any) -> None:
    for changes, words in (
        ({"start": "furry pet"}, "the start word 'furry pet' has 2 tokens"),
        ({"template": "a cat"}, "template: expected exactly one"),
        ({"template": "a {} " + "very " * 90}, "needs 92 tokens, the text encoder takes 75"),
    ):
        with pytest.raises(ConfigError, match=words):
            attack(pack, model, model, tiny_clip, **changes)
    with pytest.raises(NonFiniteError, match="Lower the learning rate"):
        attack(pack, model, model, tiny_clip, learning_rate=1e30, steps=8)


def test_the_budgets_are_those_of_the_tooltip(pack: Any) -> None:
    from tverase_pack.nodes.inversion.attack_settings import ATTACK_SETTINGS, attack_config

    widgets = {name: spec[1]["default"] for name, spec in ATTACK_SETTINGS.items()}
    made = {
        name: attack_config({**widgets, "budget": name}) for name in ATTACK_SETTINGS["budget"][0]
    }
    assert {name: (one.steps, one.batch) for name, one in made.items()} == {
        "quick": (300, 4),
        "standard": (3000, 8),
        "as published": (5000, 16),
    }
    published = made["as published"]
    assert published.learning_rate == pytest.approx(0.08)
    assert published.rate(1) == published.rate(5000) == published.learning_rate
    assert (published.weight_decay, published.start) == (0.01, "object")
    assert len(published.sentences) == 27
    assert (published.chunk, published.draws_at_once) == (1, 4)
    assert attack_config({**widgets, "learning_rate": 0.3}).learning_rate == 0.3
