"""Auto-Strength, Auto Block Mask, algebra and baselines on the real host, with known answers."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import torch

from tverase_core.errors import (
    BaseMismatchError,
    ConfigError,
    EmptyMaskError,
    JudgeError,
)
from tverase_core.inversion.inversion_set import InversionSet, encoder_digest
from tverase_core.model.block_mask import BlockMask
from tverase_core.strength.choice import NoFeasibleStrengthError, StrengthChoice

pytestmark = pytest.mark.training
SMALL = {
    "retained": "a dog | dog",
    "target": 0.3,
    "max_strength": 2.0,
    "step": 0.25,
    "pictures_per_trigger": 8,
    "pictures_per_retained": 3,
}


@pytest.fixture(scope="module")
def model(pack: Any) -> Any:
    from host_support import tiny_host

    return tiny_host.build_model(storage=torch.float32)


@pytest.fixture(scope="module")
def triggers(model: Any, tiny_clip: Any) -> InversionSet:
    """Four embeddings that nobody had to search."""
    from tverase_pack.nodes.host.text.encoder import HostTextEncoder

    encoder = HostTextEncoder(model, tiny_clip)
    vectors = torch.randn(4, 1, 32, generator=torch.Generator().manual_seed(1)) * 0.2
    ones = torch.ones(4)
    return InversionSet(
        vectors={"l": vectors},
        losses=ones,
        seeds=torch.arange(4),
        valid=ones.bool(),
        concept="cat",
        template="a {}",
        text_encoder=encoder_digest(encoder),
        hit_rates=ones,
    )


def choose(
    pack: Any, model: Any, clip: Any, found: InversionSet, **changes: Any
) -> tuple[float, StrengthChoice, str]:
    """(strength, what the report is written of, report)."""
    from tverase_pack.nodes.strength import node as auto_strength

    from host_support import attack_steps as world
    from host_support.host_steps import node

    cls = pack.NODE_CLASS_MAPPINGS["TVEraseAutoStrength"]
    given = {
        "task_vector": world.bright_vector(model),
        "judge": world.MeanJudge(),
        **SMALL,
        **world.DRAWING,
        **changes,
    }
    with patch.object(
        auto_strength, "strength_report", wraps=auto_strength.strength_report
    ) as report:
        strength, text = node(
            pack,
            "AutoStrength",
            model=model,
            clip=clip,
            vae=world.FlatVAE(),
            inversion_set=found,
            **world.defaults(cls, **given),
        )
    return strength, report.call_args.args[0], text


def rate_at(model: Any, clip: Any, pack: Any, strength: float) -> float:
    """The cat's hit rate on pictures that the stock patches of Apply Negated TV draw."""
    from tverase_pack.nodes.host.drawing.sampling import SamplerSettings, sample_latents
    from tverase_pack.nodes.host.model.conditioning import encode_texts, to_context

    from host_support import attack_steps as world
    from host_support.host_steps import node

    erased = node(
        pack,
        "ApplyNegatedTV",
        model=model,
        task_vector=world.bright_vector(model),
        strength=strength,
        other_weights="refuse",
    )[0]
    settings = SamplerSettings(2, 1.0, "euler", "normal", 64, 64)
    with torch.inference_mode():
        context = to_context(model, encode_texts(clip, ["a cat"] * 8))
        empty = to_context(model, encode_texts(clip, [""]))
        drawn = sample_latents(erased, context, empty, range(8), settings)
    pictures = world.FlatVAE().decode(drawn)
    return float(world.MeanJudge().score(pictures, "cat").mean())


def test_the_planted_strength_is_found(
    pack: Any, model: Any, tiny_clip: Any, triggers: InversionSet
) -> None:
    from host_support.host_steps import same, weights

    before = weights(model)
    strength, choice, text = choose(pack, model, tiny_clip, triggers)
    assert choice.feasible
    assert 0 < strength < 2
    assert choice.verification is not None
    assert choice.verification.passed
    assert len(choice.verification.triggers) == 2
    assert not set(choice.verification.seeds) & set(choice.seeds)
    assert len(choice.tuning) == 3  # the plain prompt and half of the set
    assert "Held-out check holds" in text
    again = choose(pack, model, tiny_clip, triggers)
    assert again[0] == strength
    assert again[1] == choice
    assert same(weights(model), before)
    assert not any(getattr(m, "weight_function", None) for m in model.model.modules())
    # what the attachment measured is what the patches do
    assert rate_at(model, tiny_clip, pack, 0.0) == 1
    assert rate_at(model, tiny_clip, pack, strength) == 0
    assert rate_at(model, tiny_clip, pack, max(0.0, strength - 0.5)) > 0


def test_the_mask_is_measured_with(
    pack: Any, model: Any, tiny_clip: Any, triggers: InversionSet
) -> None:
    half = BlockMask(blocks={"FINAL": 0.5})
    whole = choose(pack, model, tiny_clip, triggers, verify=False)
    halved = choose(
        pack, model, tiny_clip, triggers, verify=False, block_mask=half, max_strength=4.0, step=0.5
    )
    assert halved[0] == 2 * whole[0]
    assert whole[1].verification is None
    assert "`verify` is off" in whole[2]
    with pytest.raises(EmptyMaskError):
        choose(pack, model, tiny_clip, triggers, block_mask=BlockMask.only(blocks=["IN01"]))


def test_infeasible(pack: Any, model: Any, tiny_clip: Any, triggers: InversionSet) -> None:
    with pytest.raises(NoFeasibleStrengthError, match="no feasible strength") as caught:
        choose(pack, model, tiny_clip, triggers, max_strength=0.25, step=0.125)
    assert caught.value.curve is not None
    assert len(caught.value.tradeoffs) == 2
    strength, choice, text = choose(
        pack,
        model,
        tiny_clip,
        triggers,
        max_strength=0.25,
        step=0.125,
        when_infeasible="nearest",
    )
    assert not choice.feasible
    assert strength == choice.tradeoffs[0].strength
    assert "No feasible strength" in text


def test_one_trigger_and_a_retained_prompt_that_names_the_concept(
    pack: Any, model: Any, tiny_clip: Any, triggers: InversionSet
) -> None:
    _, choice, text = choose(
        pack,
        model,
        tiny_clip,
        triggers.subset([0]),
        retained="a dog | dog\na dog with a cat | dog",
    )
    assert choice.verification is None
    assert "Not verified: one embedding" in text
    assert "Warning: the retained prompt 'a dog with a cat'" in text


def test_refusals(pack: Any, model: Any, tiny_clip: Any, triggers: InversionSet) -> None:
    from host_support import attack_steps as world
    from host_support import tiny_host

    with pytest.raises(JudgeError, match="does not know 'horse'"):
        choose(pack, model, tiny_clip, triggers, retained="a horse | horse")
    with pytest.raises(JudgeError, match="sees none"):
        choose(pack, model, tiny_clip, triggers, judge=world.BlindJudge())
    other = tiny_host.build_model(storage=torch.float32, seed=5)
    with pytest.raises(BaseMismatchError):
        choose(pack, model, tiny_clip, triggers, task_vector=world.bright_vector(other))
    with pytest.raises(BaseMismatchError, match="another text encoder"):
        choose(pack, model, tiny_host.build_clip(seed=9), triggers)
    with pytest.raises(ConfigError, match="cannot show a rate"):
        choose(pack, model, tiny_clip, triggers, target=0.05)


def test_auto_block_mask(pack: Any, model: Any, tiny_clip: Any, triggers: InversionSet) -> None:
    from host_support import attack_steps as world
    from host_support.host_steps import node, pictures
    from tverase_core.vector.provenance import Provenance
    from tverase_core.vector.task_vector import TaskVector

    bright = world.bright_vector(model)
    source = torch.Generator().manual_seed(2)
    key = "diffusion_model.input_blocks.1.0.in_layers.2.weight"
    shape = dict(model.model.named_parameters())[key].shape
    deltas = {world.BIAS: bright.deltas[world.BIAS], key: torch.randn(shape, generator=source)}
    vector = TaskVector(deltas, bright.base, Provenance(concepts=("cat",)))
    cls = pack.NODE_CLASS_MAPPINGS["TVEraseAutoBlockMask"]
    given = world.defaults(cls, retained="a dog | dog", probes=3, strength=0.5, **world.DRAWING)
    mask, text = node(
        pack,
        "AutoBlockMask",
        model=model,
        clip=tiny_clip,
        task_vector=vector,
        concept_set=pictures(),
        inversion_set=triggers,
        **given,
    )
    assert isinstance(mask, BlockMask)
    assert "FINAL" in text
    assert "IN01" in text
    assert "Measured with 2 of 4 embeddings" in text


class StopHereError(Exception):
    """Carries what a stage was given."""


def embeddings(count: int, concept: str = "cat") -> InversionSet:
    """As many embeddings, numbered by their seeds."""
    ones = torch.ones(count)
    vectors = {"l": torch.arange(32.0 * count).view(count, 1, 32)}
    return InversionSet(
        vectors, ones, torch.arange(count), ones.bool(), concept, "a {}", "0", hit_rates=ones
    )


def told(found: InversionSet | None) -> set[int]:
    return set() if found is None else set(found.seeds.tolist())


def test_what_attacks_brought_back_tunes_and_is_never_held_out(
    pack: Any, model: Any, tiny_clip: Any, triggers: InversionSet
) -> None:
    from tverase_pack.nodes.strength import node as auto_strength

    from host_support import attack_steps as world

    back = torch.tensor([True, False, True, False])
    attack = replace(triggers, seeds=triggers.seeds + 100, valid=back, template="the {}")
    widgets = world.defaults(pack.NODE_CLASS_MAPPINGS["TVEraseAutoStrength"], seed=3)
    split = auto_strength.split_triggers(triggers, widgets, attack)
    alone = auto_strength.split_triggers(triggers, widgets)
    assert split.names == (*alone.names, "attack 100", "attack 102")
    assert split.held_out is not None
    assert torch.equal(split.held_out.seeds, alone.held_out.seeds)
    nothing = auto_strength.split_triggers(triggers, widgets, replace(attack, valid=~back & back))
    assert nothing.names == alone.names
    assert nothing.notes == ("The attacks brought nothing back, so they add no trigger.",)
    with pytest.raises(ConfigError, match="on 'dog', the inversion set is of 'cat'"):
        choose(pack, model, tiny_clip, triggers, attack=replace(attack, concept="dog"))
    with patch.object(auto_strength, "find_strength", wraps=auto_strength.find_strength) as search:
        strength = choose(pack, model, tiny_clip, triggers, attack=attack, seed=3)[0]
    assert search.call_args.args[0].trigger_count == len(split.names)
    assert strength > 0


def test_held_out_triggers_do_not_help_to_choose_the_mask(pack: Any) -> None:
    from tverase_pack.nodes.masks.ranked import ranking_triggers
    from tverase_pack.nodes.strength.node import split_triggers

    orders = set()
    for seed in (0, 1, 1001, 2**53):
        for count in (1, 2, 3, 5, 12, 13):
            for most in (1, 4, 256):
                found = embeddings(count)
                ranked = told(ranking_triggers(found, most, seed))
                widgets = {"prompt": "", "verify": True, "tuning_share": 0.5, "seed": seed}
                split = split_triggers(found, widgets)
                assert not ranked & told(split.held_out)
                assert len(ranked) == min(most, len(split.tuning))
                if len(ranked) == 1:
                    continue
                narrow = split_triggers(found, {**widgets, "tuning_share": len(ranked) / count})
                assert ranked == told(narrow.tuning)  # even a smaller share holds none of them out
                orders.add((seed, *sorted(ranked)))
    assert len({order[1:] for order in orders if len(order) == 5}) > 1  # the seed counts


def test_the_mask_node_ranks_with_those_triggers(
    pack: Any, model: Any, tiny_clip: Any, triggers: InversionSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tverase_pack.nodes.host.text.encoder import HostTextEncoder
    from tverase_pack.nodes.masks import ranked as auto_mask_nodes

    from host_support import attack_steps as world
    from host_support.host_steps import node, pictures

    def stop(*given: Any) -> None:
        raise StopHereError(given[4])

    monkeypatch.setattr(auto_mask_nodes, "rank_blocks", stop)
    cls = pack.NODE_CLASS_MAPPINGS["TVEraseAutoBlockMask"]
    given = world.defaults(cls, retained="a dog | dog", probes=1, seed=7, **world.DRAWING)
    with pytest.raises(StopHereError) as caught:
        node(
            pack,
            "AutoBlockMask",
            model=model,
            clip=tiny_clip,
            task_vector=world.bright_vector(model),
            concept_set=pictures(),
            inversion_set=replace(triggers, valid=torch.tensor([True, True, True, False])),
            **given,
        )
    tuning, held_out = triggers.subset([0, 1, 2]).split(0.5, 7)
    encoder = HostTextEncoder(model, tiny_clip)
    assert torch.allclose(caught.value.args[0].tokens, tuning.contexts(encoder).tokens)
    assert len(held_out) == 1


@pytest.mark.parametrize("family", ["z-image", "qwen-image"])
def test_what_must_stay_is_measured_on_latents_as_a_concept_set_has_them(
    pack: Any, comfy_host: Any, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Qwen-Image's format scales latents with an axis of time, which the sampler's have not."""
    from tverase_pack.nodes.host.drawing.studio import HostSampler
    from tverase_pack.nodes.host.text.encoder import HostTextEncoder
    from tverase_pack.nodes.masks import ranked as auto_mask_nodes

    from host_support import attack_steps as world
    from host_support import tiny_encoders, tiny_flow
    from host_support.host_steps import node
    from host_support.vector_steps import vector_for

    def stop(*given: Any) -> None:
        raise StopHereError(given[5])

    if not tiny_encoders.known(family):
        pytest.skip(f"this ComfyUI does not know {family}")
    kind = tiny_encoders.FAMILIES[family]
    model, clip = tiny_flow.build(kind.model, unet=kind.unet), tiny_encoders.build(family)
    drawn = torch.randn(16, 16, 8, 8, generator=torch.Generator().manual_seed(4))
    given = {"model": model, "clip": clip, "latents": {"samples": drawn}, "concept": "cat"}
    pictures = node(pack, "ConceptSetFromLatents", **given, caption="")[0]
    encoder, found = HostTextEncoder(model, clip), embeddings(4)
    vectors = {tower: torch.zeros(4, 1, width) for tower, width in encoder.widths().items()}
    monkeypatch.setattr(HostSampler, "latents", lambda *_: drawn)
    monkeypatch.setattr(auto_mask_nodes, "rank_blocks", stop)
    cls = pack.NODE_CLASS_MAPPINGS["TVEraseAutoBlockMask"]
    with pytest.raises(StopHereError) as caught:
        node(
            pack,
            "AutoBlockMask",
            model=model,
            clip=clip,
            task_vector=vector_for(model),
            concept_set=pictures,
            inversion_set=replace(found, vectors=vectors, text_encoder=encoder_digest(encoder)),
            **world.defaults(cls, retained="a dog | dog", probes=16, **world.DRAWING),
        )
    torch.testing.assert_close(caught.value.args[0], pictures.latents)


def test_the_widgets_are_the_rule_and_the_seeds_of_the_search(pack: Any) -> None:
    from tverase_pack.nodes.strength.strength_settings import held_out_seeds, search_config

    widgets = {
        "target": 0.2, "budget": 0.7, "step": 0.5, "max_strength": 2.0, "seed": 3,
        "pictures_per_trigger": 20, "pictures_per_retained": 5, "pictures_at_once": 6,
    }  # fmt: skip
    config = search_config(widgets)
    assert (config.rule.target, config.rule.budget) == (0.2, 0.7)
    assert config.grid.values == (0.0, 0.5, 1.0, 1.5, 2.0)
    assert (len(config.seeds), len(config.retained_seeds), config.at_once) == (20, 5, 6)
    drawn = [config.seeds, config.retained_seeds, *held_out_seeds(widgets)]
    assert len(set().union(*drawn)) == 2 * (20 + 5)  # no seed serves two purposes


def test_combine(pack: Any, model: Any) -> None:
    from host_support import attack_steps as world
    from host_support.host_steps import node
    from tverase_core.vector.provenance import Provenance
    from tverase_core.vector.task_vector import TaskVector

    base = world.bright_vector(model)
    key = "diffusion_model.time_embed.0.weight"
    source = torch.Generator().manual_seed(3)
    shape = dict(model.model.named_parameters())[key].shape
    full = TaskVector({key: torch.randn(shape, generator=source)}, base.base, Provenance())
    given = {"first": base, "second": full, "first_factor": 2.0, "second_factor": -1.0}
    made, _ = node(pack, "CombineTaskVectors", **given, orthogonalise=False)
    assert torch.equal(made.deltas[key], -full.deltas[key])
    assert torch.equal(made.deltas[world.BIAS], 2 * base.deltas[world.BIAS])
    with pytest.raises(EmptyMaskError):
        node(
            pack,
            "CombineTaskVectors",
            first=base,
            second=base,
            first_factor=1.0,
            second_factor=-1.0,
            orthogonalise=False,
        )


def test_baselines(pack: Any, model: Any, tiny_clip: Any) -> None:
    from host_support import attack_steps as world
    from host_support.host_steps import node, pictures, same, weights

    before, classes = weights(model), pack.NODE_CLASS_MAPPINGS
    given = world.defaults(classes["TVEraseESD"], steps=2, batch_size=2, learning_rate=1e-3)
    (esd,) = node(pack, "ESD", model=model, clip=tiny_clip, concept_set=pictures(), **given)
    assert all(".attn2." in key for key in esd.deltas)
    given = world.defaults(classes["TVEraseUCE"], preserve="dog")
    (uce,) = node(pack, "UCE", model=model, clip=tiny_clip, **given)
    assert {key.rsplit(".", 2)[1] for key in uce.deltas} == {"to_k", "to_v"}
    assert same(weights(model), before)


def test_judge_from_examples(pack: Any) -> None:

    from host_support.attack_steps import MeanJudge
    from host_support.host_steps import node

    def encode_image(images: torch.Tensor) -> Any:
        return {
            "image_embeds": torch.nn.functional.adaptive_avg_pool2d(
                images.movedim(-1, 1), 2
            ).flatten(1)
            - 0.5
        }

    vision = SimpleNamespace(encode_image=encode_image)
    source = torch.Generator().manual_seed(0)
    noise = torch.rand(2, 8, 16, 16, 3, generator=source) * 0.2
    left, right = noise[0].clone(), noise[1].clone()
    left[:, :, :8] += 0.7
    right[:, :, 8:] += 0.7
    given = {"clip_vision": vision, "concept": "left", "others": MeanJudge()}
    judge, report = node(pack, "JudgeFromExamples", examples=left, counter_examples=right, **given)
    assert judge.concepts() == ("left", "cat", "dog")
    assert bool((judge.score(left, "left") > 0.5).all())
    assert bool((judge.score(right, "left") < 0.5).all())
    assert judge.score(left * 0, "cat").tolist() == [1.0] * 8
    assert "100%" in report
    with pytest.raises(JudgeError, match="do not make a judge"):
        node(
            pack,
            "JudgeFromExamples",
            examples=left[:4],
            counter_examples=left[4:],
            **given,
        )


def interfere(pack: Any, model: Any, clip: Any, **changes: Any) -> Any:
    from host_support import attack_steps as world
    from host_support.host_steps import node

    cls = pack.NODE_CLASS_MAPPINGS["TVEraseMeasureInterference"]
    vector = world.bright_vector(model)
    given = {
        "judge": world.MeanJudge(),
        "first": vector,
        "second": vector * 0.001,
        "first_strength": 1.5,
        "pictures": 6,
        **world.DRAWING,
        **changes,
    }
    given = world.defaults(cls, **given)
    return node(pack, "MeasureInterference", model=model, clip=clip, vae=world.FlatVAE(), **given)


def test_interference_is_measured_with_pictures(pack: Any, model: Any, tiny_clip: Any) -> None:
    from host_support.host_steps import same, weights

    before = weights(model)
    picture, text = interfere(pack, model, tiny_clip)
    assert picture.shape[0] == 1
    lines = text.splitlines()
    assert lines[1].startswith("Unedited: cat 100%")
    assert lines[2].startswith("Erasing cat: cat 0%")  # bright pictures show no cat, but a dog
    assert "dog 100%" in lines[2]
    assert lines[3].startswith("Erasing dog: cat 100%")  # the second vector is next to nothing
    assert lines[4].startswith("Erasing all: cat 0%")
    assert same(weights(model), before)
    assert not any(getattr(m, "weight_function", None) for m in model.model.modules())


def edits_measured(pack: Any, model: Any, clip: Any, monkeypatch: Any, **changes: Any) -> Any:
    """What Measure Interference draws with: the sums of each state, that of all edits last."""
    from tverase_pack.nodes.judging import damage

    from tverase_core.judging.measured_damage import together

    def stop(*given: Any, pruned: set[int], **_: Any) -> None:
        edits, cpu = given[3], torch.device("cpu")
        raise StopHereError([*(together([e], cpu) for e in edits), together(edits, cpu, pruned)])

    monkeypatch.setattr(damage, "measure_damage", stop)
    with pytest.raises(StopHereError) as caught:
        interfere(pack, model, clip, **changes)
    return caught.value.args[0]


def test_pruned_weights_are_measured_as_they_are_erased(
    pack: Any, model: Any, tiny_clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What two vectors prune is gone once, and of a MODEL with a LoRA what is there now."""
    from tverase_pack.nodes.host.model.weights import base_weight, effective_weight, fingerprint

    from host_support.host_steps import node
    from host_support.vector_steps import erase
    from tverase_core.vector.provenance import Provenance
    from tverase_core.vector.pruned import PRUNED
    from tverase_core.vector.task_vector import TaskVector

    key = "diffusion_model.input_blocks.1.0.in_layers.2.weight"
    weight, base = base_weight(model, key).float(), fingerprint(model)
    pruned = Provenance(content=PRUNED)
    first, second = (
        TaskVector({key: torch.where(where, weight, 0.0)}, base, pruned)
        for where in (weight > 0, weight.abs() > weight.abs().median())
    )
    given = {"first": first, "second": second, "first_strength": 1.0, "second_strength": 1.0}
    all_of_it = edits_measured(pack, model, tiny_clip, monkeypatch, **given)[-1]
    both = {"first_factor": 1.0, "second_factor": 1.0, "orthogonalise": False}
    combined = node(pack, "CombineTaskVectors", first=first, second=second, **both)[0]
    assert torch.equal(all_of_it[key], combined.deltas[key])
    lora = model.clone()
    lora.add_patches({key: ("diff", (torch.ones_like(weight),))})
    alone = edits_measured(pack, lora, tiny_clip, monkeypatch, **given)[0]
    left = effective_weight(erase(pack, lora, first, 1.0, precision="patch"), key)
    torch.testing.assert_close(effective_weight(lora, key) - alone[key], left)


def test_a_line_is_needed_for_each_vector(pack: Any, model: Any, tiny_clip: Any) -> None:
    with pytest.raises(ConfigError, match="2 vectors and 1 lines in `concepts`"):
        interfere(pack, model, tiny_clip, concepts="a cat | cat")
    with pytest.raises(ConfigError, match=r"Concepts: 'a cat \|' lacks a part"):
        interfere(pack, model, tiny_clip, concepts="a cat |\na dog | dog")
    with pytest.raises(JudgeError, match="does not know 'cow'"):
        interfere(pack, model, tiny_clip, concepts="a cat | cat\na cow | cow")
