"""One concept, one seed: erase it by every method, then count what is left and what was harmed.

Run by bench/claims.py in a process of its own; writes one JSON file. The automatic erasure runs
the pack's nodes with the settings of workflows/api/erase_concept_auto.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT), str(ROOT / "bench")]

import torch  # noqa: E402 - after the path

from devtools.in_process import import_host, load_pack  # noqa: E402
from erasure.battery import Battery  # noqa: E402
from erasure.concepts import CONCEPTS, Concept  # noqa: E402
from erasure.shared import SharedMeasurement  # noqa: E402

HELD_OUT_DRAWS, HELD_OUT_FULL, PROMPT_DRAWS, ATTACK_DRAWS, RETAINED_DRAWS = 8, 20, 6, 16, 8
ATTACKS, ATTACK_STEPS = 3, 120
RETAINED_EACH = 16  # as in the workflow
ESD = {"variant": "x", "steps": 200, "learning_rate": 1e-4, "batch_size": 8, "eta": 1.0}
UCE = {"guide": "", "keep": 0.5, "preserve_weight": 1.0}
EVERY = ("plain", "paraphrases", "held_out", "retained")
COMPARED = ("held_out", "retained")  # strengths and masks are compared on these
GROUPS = {
    "tv": (*EVERY, "held_out_full"),
    "whole": COMPARED,
    "plain_alpha": COMPARED,
    "alike_alpha": COMPARED,
}
EDIT_OF = {"plain_alpha": "tv", "alike_alpha": "tv"}  # searches on the same edit
SWEEP = (1.0, 3.0, 7.5)  # CFG besides the workflow's own
SWEPT = ("cat", 0)  # the job that also measures how the strength depends on CFG


class Job:
    """The parts that every stage needs."""

    def __init__(self, comfyui: Path, concept: Concept, seed: int):
        host = import_host(comfyui)
        self.folder = tempfile.TemporaryDirectory()  # the nodes' pictures; gone with the job
        host.folder_paths.set_temp_directory(self.folder.name)
        host.folder_paths.set_output_directory(self.folder.name)
        self.pack, self.concept, self.seed = load_pack(), concept, seed
        self.nodes = self.pack.NODE_CLASS_MAPPINGS
        self.model, self.clip, self.vae = self.nodes["TVEraseDemoModel"]().load()
        self.judge = self.nodes["TVEraseDemoJudge"]().load()[0]
        graph = json.loads((ROOT / "workflows" / "api" / "erase_concept_auto.json").read_text())
        self.widgets: dict[str, dict[str, Any]] = {}
        for node in graph.values():  # the first of a type counts
            own = {k: v for k, v in node["inputs"].items() if not isinstance(v, list)}
            self.widgets.setdefault(node["class_type"], own)
        self.seconds: dict[str, float] = {}

    def settings(self, kind: str, **changed: Any) -> dict[str, Any]:
        """The workflow's widgets of a node type, with this job's seed."""
        values = {**self.widgets[kind], **changed}
        if "seed" in values:
            values["seed"] += 1000 * self.seed
        return values

    def timed(self, name: str, work: Callable[[], Any]) -> Any:
        began = time.monotonic()
        result = work()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - began
        print(
            f"{self.concept.name}/{self.seed} {name} {time.monotonic() - began:.0f} s", flush=True
        )
        return result


def learned_pictures(job: Job) -> Any:
    """Stage 1 of the workflow: the concept's pictures."""
    return job.nodes["TVEraseConceptSetFromPrompt"]().draw(
        job.model,
        job.clip,
        **job.settings(
            "TVEraseConceptSetFromPrompt",
            prompt="\n".join(job.concept.learned),
            concept=job.concept.name,
            caption="\n".join(job.concept.captions),
            caption_share=job.concept.caption_share,
        ),
    )[0]


def retained_pictures(job: Job) -> Any:
    """What must stay: pictures of the tuning prompts, never of the reported ones."""
    prompts = [prompt for prompt, _ in job.concept.tuning]
    return job.nodes["TVEraseConceptSetFromPrompt"]().draw(
        job.model,
        job.clip,
        **job.settings(
            "TVEraseConceptSetFromPrompt",
            prompt="\n".join(prompts),
            concept="what must stay",
            caption="{prompt}",
            caption_share=1.0,
            count=RETAINED_EACH * len(prompts),
        ),
    )[0]


def learned(job: Job) -> tuple[Any, Any]:
    """Stages 1 and 2: (concept set, task vector)."""
    drawn = learned_pictures(job)
    tuned = job.nodes["TVEraseConceptFinetune"]().tune(
        job.model,
        drawn,
        retained_set=retained_pictures(job),
        **job.settings("TVEraseConceptFinetune", least_noise=job.concept.least_noise),
    )["result"][0]
    return drawn, job.nodes["TVEraseExtractTaskVector"]().extract(job.model, tuned, "")[0]


def inversions(job: Job, pictures: Any, **changed: Any) -> Any:
    """Stage 3: a validated inversion set."""
    return job.nodes["TVEraseDiverseInversion"]().invert(
        job.model,
        job.clip,
        job.vae,
        pictures,
        job.judge,
        **job.settings(
            "TVEraseDiverseInversion",
            prompt=job.concept.plain,
            template=job.concept.template,
            **changed,
        ),
    )["result"][0]


def measured_mask(job: Job, vector: Any, pictures: Any, found: Any) -> Any:
    """Stage 4: the block mask that Auto Block Mask chooses."""
    return job.nodes["TVEraseAutoBlockMask"]().rank(
        job.model,
        job.clip,
        vector,
        pictures,
        found,
        **job.settings("TVEraseAutoBlockMask", retained=retained_text(job.concept)),
    )["result"][0]


def retained_text(concept: Concept) -> str:
    return "\n".join(f"{prompt} | {name}" for prompt, name in concept.tuning)


class Tuner:
    """Auto-Strength's own search on a studio that is open already."""

    def __init__(self, job: Job, studio: Any):
        from tverase_pack.nodes.strength_settings import search_config

        self.job, self.studio = job, studio
        self.config = search_config(job.settings("TVEraseAutoStrength"))
        prompts, self.names = zip(*job.concept.tuning, strict=True)
        self.kept = studio.encoder.encode(prompts)

    def choices(
        self, deltas: Any, triggers: Any, searches: dict[str, Sequence[int]]
    ) -> dict[str, Any]:
        """One search a name, each with its rows of `triggers`; pictures are drawn once for all."""
        from tverase_pack.tverase_core.strength_measure import ModelMeasurement
        from tverase_pack.tverase_core.strength_search import find_strength

        with self.studio.denoiser.attached(deltas) as attachment:
            measure = ModelMeasurement(
                attachment,
                self.studio.sampler,
                self.job.judge,
                self.job.concept.name,
                triggers,
                self.kept,
                self.names,
            )
            return {
                name: self.job.timed(
                    f"strength {name}",
                    lambda r=rows: find_strength(SharedMeasurement(measure, r), self.config),
                )
                for name, rows in searches.items()
            }


def described(choice: Any) -> dict[str, Any]:
    """What the table needs of a choice; the nearest strength where none is feasible."""
    return {
        "strength": choice.strength if choice.feasible else choice.tradeoffs[0].strength,
        "feasible": choice.feasible,
        "reason": choice.reason,
        "images": choice.images_drawn,
        "grid_images": choice.full_grid_images,
    }


def attacked(
    job: Job, studio: Any, pictures: Any, deltas: Any, strength: float
) -> list[tuple[int, int]]:
    """Adaptive Concept Inversion on the edited model: hits of each attack there."""
    from tverase_pack.tverase_core.attacks import concept_inversion
    from tverase_pack.tverase_core.erase import signed_scale
    from tverase_pack.tverase_core.inversion_config import InversionConfig

    widgets = job.settings("TVEraseDiverseInversion")
    config = InversionConfig(
        count=ATTACKS,
        steps=ATTACK_STEPS,
        learning_rate=widgets["learning_rate"],
        final_rate=0.1,
        batch=widgets["batch"],
        seed=70_000 + job.seed,
        template=job.concept.template,
        judged_draws=4,
    )
    with studio.denoiser.attached(deltas) as attachment:
        attachment.scale = signed_scale(strength)
        found = concept_inversion(studio.denoiser, studio.encoder, pictures, config, quiet)
        groups = {"attack": (found.contexts(studio.encoder), [job.concept.name] * ATTACKS)}
        battery = Battery(
            studio,
            job.judge,
            {name: (*group, ATTACK_DRAWS) for name, group in groups.items()},
            6_000_000 + 100_000 * job.seed,
        )
        return battery.count()["attack"]


def quiet(done: int, total: int, message: str) -> None:
    pass


def baselines(job: Job, pictures: Any) -> dict[str, Any]:
    """ESD-x and UCE as task vectors; strength 1 is the method's own edit."""
    esd = job.nodes["TVEraseESD"]().erase(
        job.model,
        job.clip,
        pictures,
        prompts="\n".join(job.concept.learned),
        seed=job.seed,
        anchor="null",
        **ESD,
    )["result"][0]
    uce = job.nodes["TVEraseUCE"]().erase(
        job.model,
        job.clip,
        concepts=job.concept.name,
        preserve="\n".join(name for _, name in job.concept.tuning),
        **UCE,
    )[0]
    return {"esd": esd, "uce": uce}


def measure(job: Job) -> dict[str, Any]:
    """Everything for this concept and seed."""
    from tverase_pack.nodes.drawing_settings import drawing_of
    from tverase_pack.nodes.host.drawing import open_studio
    from tverase_pack.nodes.host.edits import masked_deltas
    from tverase_pack.nodes.host.memory import gradient_bytes

    pictures, vector = job.timed("learn", lambda: learned(job))
    diverse = job.timed("invert", lambda: inversions(job, pictures))
    alike = job.timed("invert without diversity", lambda: inversions(job, pictures, diversity=0.0))
    mask = job.timed("mask", lambda: measured_mask(job, vector, pictures, diverse))
    others = job.timed("baselines", lambda: baselines(job, pictures))
    edits = {
        "tv": masked_deltas(job.model, vector, mask),
        "whole": masked_deltas(job.model, vector, None),
        **{name: masked_deltas(job.model, other, None) for name, other in others.items()},
    }
    drawing = drawing_of(job.settings("TVEraseAutoStrength"))
    extra = gradient_bytes(job.model, pictures.latents, ATTACKS * 4)
    result: dict[str, Any] = {"concept": job.concept.name, "seed": job.seed}
    result["mask"] = {"all_blocks": set(edits["tv"]) == set(edits["whole"])}
    with open_studio(
        job.model,
        job.clip,
        job.vae,
        drawing,
        purpose="bench claims",
        extra_memory_bytes=extra,
        autocast=True,
    ) as studio:
        sets = {"diverse": split(diverse, job.seed), "alike": split(alike, job.seed)}
        tuner = Tuner(job, studio)
        triggers, rows = tuning_triggers(job, studio, sets)
        choices = tuner.choices(edits["tv"], triggers, rows)
        if not result["mask"]["all_blocks"]:
            choices |= tuner.choices(edits["whole"], triggers, {"whole": rows["tv"]})
        result["choices"] = {name: described(choice) for name, choice in choices.items()}
        print(json.dumps(result["choices"]), flush=True)
        methods = (
            {n: (EDIT_OF.get(n, n), c["strength"]) for n, c in result["choices"].items()}
            | {name: (name, 1.0) for name in others}
            | {"base": ("tv", 0.0)}
        )
        result["counts"] = counted(job, built_battery(job, studio, sets), edits, methods)
        for name in ("base", "tv", "esd", "uce"):
            edit, strength = methods[name]
            result["counts"][name]["attack"] = job.timed(
                f"attack {name}",
                lambda e=edit, s=strength: attacked(job, studio, pictures, edits[e], s),
            )
        result["held_out_cosines"] = held_out_cosines(job, studio, sets)
    if (job.concept.name, job.seed) == SWEPT:
        result["cfg"] = swept(job, drawing, edits["tv"], sets["diverse"][0])
        result["cfg"][str(drawing.cfg)] = result["choices"]["tv"]
    result["seconds"] = job.seconds
    return result


def counted(
    job: Job, battery: Battery, edits: dict[str, Any], methods: dict[str, tuple[str, float]]
) -> dict[str, Any]:
    """Hits by method and group; methods that share an edit and a strength share the pictures."""
    known: dict[tuple[str, float], dict[str, Any]] = {}
    counts = {}
    for name, (edit, strength) in methods.items():
        groups = GROUPS.get(name, EVERY)
        seen = known.setdefault((edit, strength), {})
        missing = [group for group in groups if group not in seen]
        seen |= job.timed(
            f"count {name}",
            lambda e=edits[edit], s=strength, m=missing: battery.under(e, s, m),
        )
        counts[name] = {group: seen[group] for group in groups}
    return counts


def tuning_triggers(
    job: Job, studio: Any, sets: dict[str, tuple[Any, Any]]
) -> tuple[Any, dict[str, list[int]]]:
    """(context with every trigger that any search tunes on, its rows by search)."""
    from tverase_pack.tverase_core.ports import joined

    plain = studio.encoder.encode([job.concept.plain])
    diverse, alike = (sets[name][0].contexts(studio.encoder) for name in ("diverse", "alike"))
    first, second = len(diverse.tokens), len(alike.tokens)
    every = joined(plain, diverse, alike)
    rows = {
        "tv": [0, *range(1, 1 + first)],
        "plain_alpha": [0],
        "alike_alpha": [0, *range(1 + first, 1 + first + second)],
    }
    return every, rows


def split(found: Any, seed: int) -> tuple[Any, Any]:
    """(tuning, held out), half each."""
    return found.split(0.5, seed)


def built_battery(job: Job, studio: Any, sets: dict[str, tuple[Any, Any]]) -> Battery:
    """Plain prompt, paraphrases, held-out inversions of both sets, reported retained prompts."""
    from tverase_pack.tverase_core.ports import joined

    concept, encode = job.concept, studio.encoder.encode
    held_out = joined(*(held.contexts(studio.encoder) for _, held in sets.values()))
    count = len(held_out.tokens)
    prompts, names = zip(*concept.reported, strict=True)
    groups = {
        "plain": (encode([concept.plain]), [concept.name], 2 * PROMPT_DRAWS),
        "paraphrases": (
            encode(list(concept.paraphrases)),
            [concept.name] * len(concept.paraphrases),
            PROMPT_DRAWS,
        ),
        "held_out": (held_out, [concept.name] * count, HELD_OUT_DRAWS),
        "held_out_full": (held_out, [concept.name] * count, HELD_OUT_FULL),
        "retained": (encode(list(prompts)), list(names), RETAINED_DRAWS),
    }
    return Battery(studio, job.judge, groups, 5_000_000 + 100_000 * job.seed)


def held_out_cosines(job: Job, studio: Any, sets: dict[str, tuple[Any, Any]]) -> list[float]:
    """Cosine of each held-out embedding to the concept's own word."""
    word = studio.encoder.word_vectors(job.concept.name)
    tower = next(iter(word))
    mean = word[tower].detach().float().cpu().mean(0)
    rows = torch.cat([held.vectors[tower].mean(1) for _, held in sets.values()])
    return torch.nn.functional.cosine_similarity(rows, mean[None]).tolist()


def swept(job: Job, drawing: Any, deltas: Any, tuning: Any) -> dict[str, Any]:
    """The strength that the same vector needs at other CFG values."""
    from dataclasses import replace

    from tverase_pack.nodes.host.drawing import open_studio
    from tverase_pack.tverase_core.ports import joined

    found = {}
    for cfg in SWEEP:
        with open_studio(
            job.model, job.clip, job.vae, replace(drawing, cfg=cfg), purpose="bench claims"
        ) as studio:
            triggers = joined(
                studio.encoder.encode([job.concept.plain]), tuning.contexts(studio.encoder)
            )
            name = f"at CFG {cfg:g}"
            searches = {name: range(len(triggers.tokens))}
            choice = Tuner(job, studio).choices(deltas, triggers, searches)[name]
            found[str(cfg)] = described(choice)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True)
    parser.add_argument("--concept", choices=sorted(CONCEPTS), required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    job = Job(options.comfyui, CONCEPTS[options.concept], options.seed)
    with torch.inference_mode():
        result = measure(job)
    options.output.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
