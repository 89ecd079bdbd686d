"""What erasing concepts takes of one another, measured with pictures."""

from __future__ import annotations

from typing import Any

from ...tverase_core.errors import ConfigError
from ...tverase_core.judging.measured_damage import measure_damage
from ...tverase_core.judging.prototype_judge import check_names
from ...tverase_core.vector.pruned import PRUNED
from ...tverase_core.vector.task_vector import TaskVector
from ..pictures.damage_table import damage_picture
from ..pictures.figure import to_tensor
from ..shared.drawing_settings import drawing_of, drawing_widgets
from ..shared.node_output import with_pictures
from ..shared.retained_prompts import parse_prompts
from ..shared.sockets import CATEGORY, JUDGE
from ..shared.widgets import Widget, number, seed, socket, text, whole
from ..strength.strength_settings import SETTINGS as AUTO_STRENGTH
from ..vector.compare import PLACES, VECTORS


class MeasureInterference:
    """Draws every concept with every vector subtracted, alone and together, and counts."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        strengths = {f"{place}_strength": _strength(place) for place in PLACES}
        return {
            "required": {
                "model": socket("MODEL", "The base model of all vectors."),
                "clip": socket("CLIP", "Its text encoder."),
                "vae": socket("VAE", "Its VAE; the judge looks at pictures."),
                "judge": socket(JUDGE, "Tells which concept is in a picture."),
                **{place: VECTORS[place] for place in PLACES[:2]},
                "concepts": text(
                    "a cat | cat\na dog | dog",
                    "One line for each vector, in their order: a prompt that draws "
                    "the concept, a bar, and the name by which the judge knows it.",
                    multiline=True,
                ),
                **{name: strengths[name] for name in list(strengths)[:2]},
                "pictures": whole(
                    16,
                    (1, 1000),
                    "Pictures of each concept in each state. Two concepts have four "
                    "states: unedited, either erased, both erased.",
                ),
                "seed": seed("Picture i of every prompt is drawn from seed + i."),
                **drawing_widgets(),
                "other_weights": AUTO_STRENGTH["other_weights"],
            },
            "optional": {
                **{place: VECTORS[place] for place in PLACES[2:]},
                **{name: strengths[name] for name in list(strengths)[2:]},
            },
        }

    RETURN_TYPES = ("IMAGE", "STRING")
    RETURN_NAMES = ("table", "report")
    OUTPUT_TOOLTIPS = (
        "What each erasure takes of each concept, as a picture.",
        "Every rate with its interval.",
    )
    FUNCTION = "measure"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Draws each concept with each vector subtracted, and with all of them, and counts with a "
        "judge how much of every concept is left. Compare Task Vectors predicts the same without "
        "a picture."
    )
    SEARCH_ALIASES = ["interference", "collateral damage", "several concepts", "cross talk"]

    def measure(
        self,
        model: Any,
        clip: Any,
        vae: Any,
        judge: Any,
        concepts: str,
        pictures: int,
        seed: int,
        **given: Any,
    ) -> dict[str, Any]:
        from ..host.app.progress import NodeProgress
        from ..host.drawing.studio import open_studio
        from ..host.model.edits import checked_deltas, plan_bytes

        places = [place for place in PLACES if given.get(place) is not None]
        prompts, names = parse_prompts(concepts, "Concepts")
        if len(prompts) != len(places):
            raise ConfigError(
                f"There are {len(places)} vectors and {len(prompts)} lines in `concepts`. "
                "Write one line for each vector, in their order, such as `a cat | cat`."
            )
        check_names(judge, tuple(names))
        allow = given["other_weights"] == "allow"
        vectors: list[TaskVector] = [given[place] for place in places]
        # What acts on this MODEL, which is not always the vector's own deltas.
        plans = [checked_deltas(model, v, None, allow_other_weights=allow) for v in vectors]
        deltas = [{k: d for group in plan.values() for k, d in group.items()} for plan in plans]
        strengths = [given.get(f"{place}_strength", 1.0) for place in places]
        # The sum of all is the largest edit that is tried.
        largest = plan_bytes({1: {k: d for own in deltas for k, d in own.items()}})
        loading = {"purpose": "Measure Interference", "extra_memory_bytes": largest}
        with open_studio(model, clip, vae, drawing_of(given), **loading) as studio:
            found = measure_damage(
                studio.denoiser,
                studio.sampler,
                judge,
                list(zip(strengths, deltas, strict=True)),
                studio.encoder.encode(prompts),
                names,
                pictures=pictures,
                pruned={i for i, v in enumerate(vectors) if v.provenance.content == PRUNED},
                seed=seed,
                at_once=given["pictures_at_once"],
                progress=NodeProgress(),
            )
        picture, text = damage_picture(found), found.to_text()
        return with_pictures({"damage": picture}, (to_tensor(picture), text), text)


def _strength(place: str) -> Widget:
    return number(
        1.0, (0.0, 100.0, 0.05), f"The strength that the {place} vector is subtracted at."
    )
