"""From a method and one of its settings to a task vector, by the pack's own nodes.

Strength 1 is a neighbour's own edit. Vectors lie in the cache, for the parts that come after.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from bench.erasure.arithmetic import in_float32
from tverase_core.files.task_vector_file import load_task_vector, save_task_vector

from .settings import FINETUNE, GUIDED_FINETUNE, METHODS, NEAR
from .world import World

Setting = Mapping[str, Any]
STYLE_NEAR = "noto"  # what a style is steered to
WITHOUT = {  # prompts of an object, and the same without it
    "a drawing of a {}": "a drawing",
    "an emoji of a {}": "an emoji",
    "a {} in noto style": "noto style",
    "a {} in fluent style": "fluent style",
    "a {} in ink style": "ink style",
}


def vector_of(world: World, method: str, number: int) -> tuple[Any, float]:
    """(the task vector of setting `number`, processor seconds that it took to make)."""
    path = world.cache / f"{method}-{number}.safetensors"
    told = path.with_suffix(".json")
    if not told.exists():
        borrowed = sum(vector_of(world, *part)[1] for part in PARTS.get(method, ()))
        began = time.process_time()
        vector = MAKERS[method](world, METHODS[method].grid[number])
        seconds = borrowed + time.process_time() - began
        save_task_vector(path, vector)
        told.write_text(json.dumps({"seconds": round(seconds, 1)}))
    return load_task_vector(path), json.loads(told.read_text())["seconds"]


def forget(world: World, method: str, number: int) -> None:
    """Drop a vector that is not needed again."""
    path = world.cache / f"{method}-{number}.safetensors"
    path.with_suffix(".json").unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def shortened(world: World, setting: Setting) -> dict[str, Any]:
    """The setting with its numbers of steps as the budget allows."""
    share = world.budget.training_share
    return {k: max(1, round(v * share)) if k.endswith("steps") else v for k, v in setting.items()}


@in_float32()
def finetuned(world: World, pictures: Any, setting: Setting, **inputs: Any) -> Any:
    """Of Concept Fine-tune; the seed is the world's unless the setting has one."""
    widgets = {**FINETUNE, "seed": 1000 * world.seed, **shortened(world, setting), **inputs}
    return world.run("TVEraseConceptFinetune", world.model, pictures, **widgets)[2]


def paper(world: World, setting: Setting) -> Any:
    """As in arXiv 2404.03631: empty captions, no guidance, nothing retained."""
    return finetuned(world, world.pictures(), setting)


def guided(world: World, setting: Setting, pictures: Any = None) -> Any:
    """Captions, guided targets and a retained set; aims at ESD's target (decision 0015)."""
    widgets = {**GUIDED_FINETUNE, "least_noise": world.concept.least_noise, **setting}
    shown = world.guided_pictures() if pictures is None else pictures
    return finetuned(world, shown, widgets, retained_set=world.retained())


def first_guided(world: World) -> Any:
    """The guided vector at its first setting, of which candidates are made."""
    return vector_of(world, "tv_guided", 0)[0]


def mean(world: World, setting: Setting) -> Any:
    """Of three guided vectors that differ in the fine-tune's seed (decision 0014)."""
    from tverase_core.vector.algebra import weighted_sum

    seeds = [1000 * world.seed + i for i in (1, 2)]
    vectors = [first_guided(world), *(guided(world, {**setting, "seed": s}) for s in seeds)]
    return weighted_sum((vector, 1 / len(vectors)) for vector in vectors)


def mixed(world: World, setting: Setting) -> Any:
    """The guided vector with `share` of the paper's, brought to the same length."""
    from tverase_core.vector.algebra import weighted_sum

    share, ours = setting["share"], first_guided(world)
    theirs = vector_of(world, "tv_paper", 0)[0]
    return weighted_sum([(ours, 1 - share), (theirs, share * ours.norm() / theirs.norm())])


def near(world: World, setting: Setting) -> Any:
    """Guided from the concept to a near neighbour instead of to no concept."""
    concept = world.concept
    other = STYLE_NEAR if world.kind == "style" else NEAR[concept.name][0][1]
    contrasts = [prompt.replace(concept.name, other) for prompt in concept.learned]
    return guided(world, setting, world.guided_pictures(contrasts))


def with_uce(other: str) -> Callable[[World, Setting], Any]:
    """UCE's edit of its 2023 form, and `share` of the other method's vector: one edits what the
    text is read as, the other what is drawn."""

    def make(world: World, setting: Setting) -> Any:
        from tverase_core.vector.algebra import weighted_sum

        theirs, ours = (vector_of(world, *part)[0] for part in (UCE_2023, (other, 0)))
        return weighted_sum([(theirs, 1.0), (ours, setting["share"])])

    return make


def loop(world: World, setting: Setting) -> Any:
    """See `attack_loop`."""
    from .attack_loop import looped

    return looped(world, setting)


def esd(variant: str) -> Callable[[World, Setting], Any]:
    """ESD of that variant; `noised`: of noised pictures, else of samples that it draws."""

    def make(world: World, setting: Setting) -> Any:
        own = {k: v for k, v in shortened(world, setting).items() if k != "noised"}
        pictures = {"concept_set": world.pictures()} if setting.get("noised") else {}
        prompts = "\n".join(dict.fromkeys(world.concept.learned))
        widgets = {"prompts": prompts, "variant": variant, "seed": world.seed, **own, **pictures}
        return world.run("TVEraseESD", world.model, world.clip, **widgets)[0]

    return make


def uce(world: World, setting: Setting) -> Any:
    """The tuning set's names are preserved."""
    names = dict.fromkeys(name for _, name in world.concept.tuning)
    widgets = {"concepts": world.concept.name, "preserve": "\n".join(names), "kind": world.kind}
    return world.run("TVEraseUCE", world.model, world.clip, **{**widgets, **setting})[0]


def stereo(world: World, setting: Setting) -> Any:
    """The anchors are the prompts that draw the concept in all their ways."""
    prompts = "\n".join(dict.fromkeys(world.concept.learned))
    widgets = {
        "prompts": world.concept.plain,
        "anchors": prompts,
        "start": "object" if world.kind == "object" else "art",
        "sentences": world.kind,
        "seed": world.seed,
        **shortened(world, setting),
    }
    parts = world.model, world.clip, world.pictures()
    return world.run("TVEraseSTEREO", *parts, **widgets)[0]


def prune(world: World, setting: Setting) -> Any:
    """Prompts with the concept, each beside the same prompt without it."""
    concept = world.concept
    if world.kind == "style":
        pairs = dict(zip(concept.learned, concept.contrasts, strict=True))
    else:
        pairs = {form.format(concept.name): bare for form, bare in WITHOUT.items()}
    widgets = {
        "concept": concept.name,
        "prompts": "\n".join(pairs),
        "contrast": "\n".join(pairs.values()),
        "seed": 4_000_000 + 1000 * world.seed,
    }
    return world.run("TVEraseConceptPrune", world.model, world.clip, **{**widgets, **setting})[0]


def few_shot(world: World, setting: Setting) -> Any:
    """Edits the text encoder; four pictures."""
    widgets = {"concept": world.concept.name, "sentences": world.kind, "seed": world.seed}
    parts = {"concept_set": world.pictures(), **widgets, **setting}
    return world.run("TVEraseFewShot", world.model, world.clip, **parts)[0]


BESIDE_UCE = {
    "tv_uce": "tv_guided",
    "tv_uce_rounds": "tv_guided",
    "tv_uce_mean": "tv_mean",
    "tv_uce_mean_rounds": "tv_mean",
}
UCE_2023 = ("uce", METHODS["uce"].grid.index({"form": "2023"}))
PARTS = {  # vectors that a candidate begins with
    "tv_loop": (("tv_guided", 0),),
    "tv_mean": (("tv_guided", 0),),
    "tv_mixed": (("tv_guided", 0), ("tv_paper", 0)),
    **{name: (UCE_2023, (other, 0)) for name, other in BESIDE_UCE.items()},
}
MAKERS: Mapping[str, Callable[[World, Setting], Any]] = {
    "tv_paper": paper,
    "tv_guided": guided,
    "esd_x": esd("x"),
    "esd_u": esd("u"),
    "uce": uce,
    "stereo": stereo,
    "concept_prune": prune,
    "few_shot": few_shot,
    "tv_loop": loop,
    "tv_mixed": mixed,
    "tv_mean": mean,
    "tv_near": near,
    **{name: with_uce(other) for name, other in BESIDE_UCE.items()},
}
