"""Which jobs there are, in which order, and what each waits for."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from .settings import BASE, CONCEPTS, EVERY, KINDS, LOOKS, LOOKS_CLAIMS, METHODS, SEEDS

# What is measured of a method; each is a file of its own.
TUNE, COUNT, ATTACK, AGAIN = "tune", "count", "attack", "attack_again"
CLAIMS = ("strength", "diversity", "mask")  # jobs of the paper's own vector: claims 2, 3 and 4
# A seed each: the three of a group differ in all that is drawn and learned.
LOOKS_RUNS = [(name, SEEDS[number % len(SEEDS)]) for number, name in enumerate(LOOKS)]


@dataclass(frozen=True, slots=True)
class Job:
    """One file of results."""

    method: str
    concept: str
    seed: int
    part: str

    @property
    def name(self) -> str:
        return f"{self.concept}-{self.seed}-{self.method}-{self.part}"

    @property
    def run(self) -> str:
        """As tables name it."""
        return f"{self.concept}/{self.seed}"


@dataclass(frozen=True, slots=True)
class Leg:
    """Jobs that one process does in turn; it starts when all that it `needs` are done."""

    jobs: tuple[Job, ...]
    needs: tuple[Job, ...] = ()

    @property
    def name(self) -> str:
        first = self.jobs[0]
        parts = "+".join(job.part for job in self.jobs)
        return f"{first.run} {first.method}: {parts}"


def chooser(concept: str) -> str:
    """The concept whose first seed chooses a method's setting for this one."""
    return next(other for other in CONCEPTS if KINDS[other] == KINDS[concept])


def first_tuning(method: str, concept: str) -> Job:
    """The job that chooses the method's setting."""
    return Job(method, chooser(concept), SEEDS[0], TUNE)


def tuning_of(method: str, concept: str, seed: int) -> Job:
    """The job whose setting the run takes: its own, but concepts of several looks have none."""
    own = Job(method, concept, seed, TUNE)
    return first_tuning(method, concept) if concept in LOOKS else own


def legs(
    methods: Sequence[str], concepts: Sequence[str], seeds: Sequence[int], claims: Sequence[str]
) -> list[Leg]:
    """All of them, the most telling first.

    Of the first seed: every method on the first object, then on the style, then on the second
    object; then the claims, then the attacks' second starts; then the other seeds in the same way.
    Last the claims of concepts with several looks.
    """
    found: list[Leg] = []
    single = [concept for concept in concepts if concept not in LOOKS]
    for seed in seeds:
        for concept in single:
            found += main_legs(methods, concept, seed)
        for concept in single:
            found += claim_legs(claims, concept, seed)
        for concept in single:
            found += again_legs(methods, concept, seed)
    about_looks = [claim for claim in LOOKS_CLAIMS if claim in claims]
    for concept, seed in LOOKS_RUNS:
        if concept in concepts and seed in seeds:
            found += claim_legs(about_looks, concept, seed)
    return found


def main_legs(methods: Sequence[str], concept: str, seed: int) -> Iterator[Leg]:
    """The base first, since its attack tells whether the others' count."""
    yield Leg(jobs_of(BASE, concept, seed, COUNT, ATTACK))
    for method in methods:
        chosen = first_tuning(method, concept)
        mine = jobs_of(method, concept, seed, TUNE, COUNT, ATTACK)
        yield Leg(mine, () if chosen in mine else (chosen,))


def again_legs(methods: Sequence[str], concept: str, seed: int) -> Iterator[Leg]:
    for method in (BASE, *methods):
        needs = () if method == BASE else (Job(method, concept, seed, TUNE),)
        yield Leg(jobs_of(method, concept, seed, AGAIN), needs)


def claim_legs(claims: Sequence[str], concept: str, seed: int) -> Iterator[Leg]:
    for claim in claims:
        needs = (tuning_of("tv_paper", concept, seed),)
        yield Leg(jobs_of("tv_paper", concept, seed, claim), needs)


def jobs_of(method: str, concept: str, seed: int, *parts: str) -> tuple[Job, ...]:
    return tuple(Job(method, concept, seed, part) for part in parts)


def every_job() -> list[Job]:
    """Of the whole arena."""
    found = legs(tuple(METHODS), EVERY, SEEDS, CLAIMS)
    return [job for leg in found for job in leg.jobs]


def next_ready(waiting: Sequence[Leg], done: Collection[Job]) -> Leg | None:
    """The first leg that can start: all that it needs is done."""
    return next((leg for leg in waiting if all(job in done for job in leg.needs)), None)
