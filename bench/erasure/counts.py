"""What is counted: triggers and prompts under every edit, and adaptive attacks on it."""

from __future__ import annotations

from typing import Any

import torch

from .automatic import Job
from .battery import Battery

HELD_OUT_DRAWS, HELD_OUT_FULL, PROMPT_DRAWS, ATTACK_DRAWS, RETAINED_DRAWS = 8, 20, 6, 16, 8
ATTACKS, ATTACK_STEPS = 3, 120
EVERY = ("plain", "paraphrases", "held_out", "retained")
COMPARED = ("held_out", "retained")  # strengths are compared on these
GROUPS = {
    "tv": (*EVERY, "held_out_full"),
    "plain_alpha": COMPARED,
    "alike_alpha": COMPARED,
}


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


def attacked(
    job: Job, studio: Any, pictures: Any, deltas: Any, strength: float
) -> list[tuple[int, int]]:
    """Adaptive Concept Inversion on the edited model: hits of each attack there."""
    from tverase_pack.tverase_core.inversion.attack import concept_inversion
    from tverase_pack.tverase_core.inversion.config import InversionConfig
    from tverase_pack.tverase_core.ports import quiet
    from tverase_pack.tverase_core.vector.erase import signed_scale

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
        triggers = found.contexts(studio.encoder), [job.concept.name] * ATTACKS, ATTACK_DRAWS
        first_seed = 6_000_000 + 100_000 * job.seed
        battery = Battery(studio, job.judge, {"attack": triggers}, first_seed)
        return battery.count()["attack"]


def held_out_cosines(job: Job, studio: Any, sets: dict[str, tuple[Any, Any]]) -> list[float]:
    """Cosine of each held-out embedding to the concept's own word."""
    word = studio.encoder.word_vectors(job.concept.name)
    tower = next(iter(word))
    mean = word[tower].detach().float().cpu().mean(0)
    rows = torch.cat([held.vectors[tower].mean(1) for _, held in sets.values()])
    return torch.nn.functional.cosine_similarity(rows, mean[None]).tolist()
