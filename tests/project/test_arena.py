"""`bench arena`: the order of its work, what counts, and what a partial state says."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.arena_parts import leg
from bench.arena_parts.attack_loop import SHARE, with_triggers
from bench.arena_parts.edited import Rows, Unedited
from bench.arena_parts.looks import EVERY_CONCEPT, LooksJudge, looks_concept
from bench.arena_parts.page import text, write_page
from bench.arena_parts.plan import (
    AGAIN,
    ATTACK,
    CLAIMS,
    COUNT,
    LOOKS_RUNS,
    TUNE,
    Job,
    every_job,
    legs,
    next_ready,
    tuning_of,
)
from bench.arena_parts.settings import (
    BASE,
    CONCEPTS,
    EVERY,
    KINDS,
    LABELS,
    LOOKS,
    LOOKS_CLAIMS,
    METHODS,
    PUBLISHED,
    SEEDS,
    Budget,
)
from bench.arena_parts.store import Store
from bench.arena_parts.summary import (
    GAPS,
    Arena,
    arena_figures,
    best_attack,
    claim_gap,
    method_figures,
)
from bench.arena_parts.tuning import best
from devtools.figures import figures_document
from tverase_core.concept_set import Guide, concept_set
from tverase_core.ports import Context

Result = dict[str, Any]
FIRST = ("cat", 1)


def everything() -> list[Any]:
    return legs(tuple(METHODS), EVERY, SEEDS, CLAIMS)


def counts(erased: int = 1, kept: int = 9) -> Result:
    """Ten pictures of each of three triggers or prompts."""
    groups = dict.fromkeys(("plain", "paraphrases", "held_out"), [[erased, 10]] * 3)
    stays = dict.fromkeys(("named", "never_named", "near"), [[kept, 10]] * 3)
    return {"groups": {**groups, **stays}}


def attack(hits: int) -> Result:
    return {"hits": hits, "draws": 10, "views": 24000}


def tuned(strength: float = 1.0, seconds: float = 5.0) -> Result:
    facts = {"strength": strength, "feasible": True, "setting": 0, "seconds": seconds}
    facts |= {"pictures": 30, "grid_pictures": 120}
    return {**facts, "touched": 30, "weights": 100}


def of(method: str, run: tuple[str, int], leak: tuple[int, int] = (1, 3)) -> dict[Job, Result]:
    """All parts of a method and run; the base draws the concept and keeps all."""
    if method == BASE:
        parts = {COUNT: counts(10, 10), ATTACK: attack(9), AGAIN: attack(8)}
    else:
        first, second = map(attack, leak)
        parts = {TUNE: tuned(), COUNT: counts(), ATTACK: first, AGAIN: second}
    return {Job(method, *run, part): result for part, result in parts.items()}


def results(
    runs: Iterable[tuple[str, int]], methods: Iterable[str] = (BASE, *METHODS), **leaks: Any
) -> dict[Job, Result]:
    made: dict[Job, Result] = {}
    for run in runs:
        for method in methods:
            made |= of(method, run, leaks.get(method, (1, 3)))
    return made


ALL = [(concept, seed) for seed in SEEDS for concept in CONCEPTS]


def test_the_most_telling_work_comes_first() -> None:
    jobs = [job for leg in everything() for job in leg.jobs]
    runs = list(dict.fromkeys((job.concept, job.seed) for job in jobs))
    assert runs == [*ALL, *LOOKS_RUNS]
    assert [KINDS[concept] for concept in CONCEPTS] == ["object", "style", "object"]
    assert [job.method for job in jobs[:2]] == [BASE, BASE]
    main = [job for job in jobs if job.part not in (*CLAIMS, AGAIN)]
    assert list(dict.fromkeys(job.method for job in main)) == [BASE, *METHODS]
    assert set(list(METHODS)[: len(PUBLISHED)]) == set(PUBLISHED)
    first_claim = min(jobs.index(job) for job in jobs if job.part in CLAIMS)
    assert all(jobs.index(job) < first_claim for job in main if job.seed == SEEDS[0])
    assert len(jobs) == len(set(jobs))


def test_a_leg_waits_for_what_it_needs() -> None:
    """The setting of a later run is that of its kind's first."""
    waiting = everything()
    (late,) = (leg for leg in waiting if leg.jobs[0] == Job("uce", "car", 2, TUNE))
    assert late.needs == (Job("uce", "cat", 1, TUNE),)
    assert next_ready([late], set()) is None
    assert next_ready([late], set(late.needs)) is late
    first = next_ready(waiting, set())
    assert first is not None
    assert first.jobs[0] == Job(BASE, "cat", 1, COUNT)
    done = set[Job]()
    while waiting:  # with one worker nothing is ever stuck
        leg = next_ready(waiting, done)
        assert leg is waiting[0]
        waiting.remove(leg)
        done |= set(leg.jobs)


def test_a_result_counts_only_with_its_own_numbers(tmp_path: Path) -> None:
    job = Job("uce", "cat", 1, COUNT)
    store = Store(tmp_path / "kept", Budget())
    assert store.finished(job) is None
    store.write(job, counts())
    assert store.all_finished([job, Job("uce", "cat", 2, COUNT)])[job]["groups"]
    assert Store(store.folder, Budget(attack_steps=5)).finished(job) is None
    assert [file.name for file in store.folder.iterdir()] == ["cat-1-uce-count.json"]


def test_the_setting_that_keeps_most_is_taken_where_any_erases() -> None:
    def facts(feasible: bool, kept: float, worst: float) -> Mapping[str, Any]:
        return {"feasible": feasible, "kept": kept, "worst": worst}

    erases = [facts(True, 0.95, 0.1), facts(True, 0.97, 0.0), facts(False, 1.0, 0.5)]
    assert best(erases) == 1
    assert best([facts(False, 0.99, 0.5), facts(False, 0.9, 0.3), facts(False, 1.0, 0.3)]) == 1


def test_what_an_attack_finds_tunes_the_next_round(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def found_strength(_: Any, __: Any, sets: list[str]) -> Result:
        asked.append(list(sets))
        return {"strength": float(len(sets))}

    monkeypatch.setattr(leg, "found_strength", found_strength)
    monkeypatch.setattr(leg, "attacks", lambda _w, _v, strength, number: f"{number} at {strength}")
    assert leg.strength_of(None, None, "tuning", 2) == {"strength": 3.0}
    assert asked == [["tuning"], ["tuning", "0 at 1.0"], ["tuning", "0 at 1.0", "1 at 2.0"]]
    assert leg.strength_of(None, None, "tuning", 0) == {"strength": 1.0}


def test_pooled_figures() -> None:
    """Rates over triggers, kept over the base's, intervals by run."""
    found = results(ALL, esd_x=(5, 7))
    figures = arena_figures(found, Budget())
    assert figures["esd_x_attack"].value == pytest.approx(0.6)
    assert figures["esd_x_attack"].n == 9 * 2 * 10
    assert figures["uce_plain"].value == pytest.approx(0.1)
    assert figures["uce_kept"].value == pytest.approx(0.9)
    assert figures["uce_weights_touched"].value == pytest.approx(0.3)
    assert figures["uce_seconds"].value == pytest.approx(5)
    assert figures["attack_on_base"].value == pytest.approx(0.85)
    assert figures["attack_on_base"].met()
    assert figures["attack_views"].met()
    assert figures["runs"].value == 9
    assert figures["strength_images_ratio"].value == pytest.approx(0.25)
    assert figures["strength_images_ratio"].n == 9 * len(METHODS)
    for name in ("esd_x_attack", "uce_plain", "uce_kept", "attack_on_base"):
        assert figures[name].interval is not None
    assert figures["claim_robustness_esd_x"].value == pytest.approx(0.4)
    assert figures["claim_robustness"].value == pytest.approx(0)  # against the least sure rival


def test_no_leak_at_all_is_no_proof_of_none() -> None:
    """Resampling equal rates shows no spread; the pictures do: 0 of 180."""
    figure = arena_figures(results(ALL, uce=(0, 0)), Budget())["uce_attack"]
    assert figure.value == 0
    assert figure.interval == (0, pytest.approx(0.0209, abs=1e-4))


def test_the_claim_is_told_against_the_rival_that_leaves_least() -> None:
    figures = arena_figures(results(ALL, esd_x=(4, 4), esd_u=(2, 2), tv_paper=(1, 1)), Budget())
    assert figures["claim_robustness"].value == pytest.approx(0.1)


def test_an_attack_that_fails_on_the_base_counts_for_no_method() -> None:
    found = results([FIRST])
    found[Job(BASE, *FIRST, AGAIN)] = attack(4)
    assert method_figures(Arena.of(found), "uce")["attack"].value == pytest.approx(0.1)
    found[Job(BASE, *FIRST, ATTACK)] = attack(4)
    figure = method_figures(Arena.of(found), "uce")["attack"]
    assert figure.value is None
    assert "invalid" in str(figure.reason)
    figures = arena_figures(found, Budget())
    assert figures["attack_on_base"].value == pytest.approx(0.4)
    assert not figures["attack_on_base"].met()
    assert figures["claim_robustness"].value is None
    assert "resisted" not in page_of(found)
    assert "| invalid |" in page_of(found)


def test_a_second_start_counts_when_every_method_of_every_run_has_it() -> None:
    found = results(ALL[:2])
    assert method_figures(Arena.of(found), "uce")["attack"].value == pytest.approx(0.2)
    del found[Job("esd_x", *FIRST, AGAIN)]
    figure = method_figures(Arena.of(found), "uce")["attack"]
    assert figure.value == pytest.approx(0.1)
    assert figure.n == 20
    assert f"| {LABELS['uce']} | 1 and 3 of 10 | 1 and 3 of 10 |" in page_of(found)


def test_the_corner_is_held_by_the_least_leak_of_those_that_keep_enough() -> None:
    found = results(ALL, uce=(0, 0), stereo=(1, 1))
    for run in ALL:
        found[Job("stereo", *run, COUNT)] = counts(1, 10)
        found[Job("esd_x", *run, COUNT)] = counts(1, 10)
    figure, method = best_attack(found, "object", "<= 0.05")
    assert (method, figure.value) == ("stereo", pytest.approx(0.1))  # uce keeps 90 %
    only_cat = {job: result for job, result in found.items() if job.concept != "car"}
    figure, method = best_attack(only_cat, "object", "<= 0.05")
    assert (method, figure.value) == (None, None)
    assert figure.reason == "not every method is measured on car"
    assert best_attack(only_cat, "style", "<= 0.10")[1] == "stereo"


def test_who_answers_the_plain_prompt_leaks_whatever_the_attack_says() -> None:
    found = results(ALL, stereo=(0, 0), uce=(1, 1))
    for run in ALL:
        found[Job("stereo", *run, COUNT)] = counts(10, 10)
        found[Job("uce", *run, COUNT)] = counts(2, 10)
    assert arena_figures(found, Budget())["stereo_leak"].value == 1
    figure, method = best_attack(found, "object", "<= 0.05")
    assert (method, figure.value) == ("uce", pytest.approx(0.2))


def page_of(found: Mapping[Job, Result]) -> str:
    document = figures_document(
        "arena", "python dev.py bench arena", "2026-01-01", {}, arena_figures(found, Budget())
    )
    return text(document, found, Budget())


def test_a_method_on_fewer_concepts_has_no_figure() -> None:
    found = results([FIRST, ("ink", 1)], (BASE, *PUBLISHED)) | of("tv_loop", FIRST, (0, 0))
    arena = Arena.of(found)
    assert arena.runs == (FIRST, ("ink", 1))
    assert method_figures(arena, "tv_loop")["attack"].value is None
    assert method_figures(arena, "tv_loop")["attack"].reason == "not measured on ink/1"
    page = page_of(found)
    assert "**Not there yet:" in page
    assert "not measured on ink/1" in page
    assert "- car/1: all of it" in page


def test_a_run_that_a_method_lacks_is_compared_by_none() -> None:
    found = results([FIRST, ("ink", 1)], (BASE, *PUBLISHED))
    del found[Job("few_shot", "ink", 1, ATTACK)]
    assert Arena.of(found).runs == (FIRST,)
    del found[Job("few_shot", "cat", 1, ATTACK)]
    arena = Arena.of(found)  # no run is whole: what has begun, and few_shot has no figure
    assert arena.runs == (FIRST, ("ink", 1))
    assert arena.lacks("few_shot") == "not measured on cat/1, ink/1"


@pytest.mark.parametrize("found", [{}, of(BASE, FIRST), results([FIRST], (BASE, "uce"))])
def test_a_partial_state_has_every_figure_and_a_page(
    found: dict[Job, Result], tmp_path: Path
) -> None:
    figures = arena_figures(found, Budget())
    names = {f"{m}_{end}" for m in (BASE, *METHODS) for end in ("plain", "attack")}
    wanted = names | {"best_attack_at_95_kept", "best_attack_at_95_kept_style", *claim_names()}
    assert wanted <= set(figures)
    assert figures["jobs_measured"].value == len(found)
    document = figures_document("arena", "x", "2026-01-01", {}, figures)
    json.dumps(document, allow_nan=False)
    write_page(tmp_path / "claims.md", tmp_path, document, found, Budget())
    assert (tmp_path / "arena_pareto.png").exists() == bool(found)
    page = (tmp_path / "claims.md").read_text()
    assert f"**Not there yet: {len(every_job()) - len(found)} of {len(every_job())} jobs.**" in page


def claim_names() -> list[str]:
    return [f"claim_{name}" for name in ("robustness", *CLAIMS)]


def test_the_whole_says_nothing_is_lacking() -> None:
    claims = {job: claim_result() for job in every_job() if job.part in CLAIMS}
    page = page_of(results(ALL) | claims)
    assert "Not there yet" not in page
    assert "-0.000" not in page


def claim_result(worse: int = 5, better: int = 2, feasible: bool = True) -> Result:
    def side(hits: int) -> Result:
        cells = {"held_out": [[hits, 10]] * 3, "kept": [[10 - hits, 10]] * 3}
        return {"strength": 1.0, "feasible": feasible, **cells}

    first = {"plain": side(worse), "inversions": side(better), "alike": side(worse)}
    return {**first, "diverse": side(better), "first three blocks": side(better), "whole": side(5)}


def test_claims_are_differences_at_equal_erasure() -> None:
    jobs = [job for job in every_job() if job.part == "strength"][:2]
    found = {job: claim_result() for job in jobs}
    figure = claim_gap(found, GAPS["claim_strength_one_look"])
    assert figure.value == pytest.approx(0.3)
    assert figure.met()
    masked = {Job("tv_paper", *FIRST, "mask"): claim_result()}
    gained = claim_gap(masked, GAPS["claim_mask"])
    assert gained.value == pytest.approx(0.3)
    assert not gained.met()  # one run has no interval
    never = {job: claim_result(feasible=False) for job in jobs}
    assert claim_gap(never, GAPS["claim_strength_one_look"]).value is None


def test_concepts_of_several_looks_have_a_figure_of_their_own() -> None:
    jobs = [job for job in every_job() if job.part == "strength"]
    found = {job: claim_result(worse=5 if job.concept in LOOKS else 2) for job in jobs}
    assert claim_gap(found, GAPS["claim_strength"]).value == pytest.approx(0.3)
    assert claim_gap(found, GAPS["claim_strength_one_look"]).value == 0


def test_each_look_is_once_the_one_that_the_prompt_names() -> None:
    assert [EVERY_CONCEPT[name].plain for name in LOOKS][:3] == ["a cat", "a dog", "a bird"]
    for name, (known, looks) in LOOKS.items():
        concept = looks_concept(name)
        assert all(any(look in prompt for prompt in concept.learned) for look in looks)
        asked = {name for _, name in concept.tuning + concept.reported}
        assert known in looks
        assert not asked & set(looks)
    for job in (job for job in every_job() if job.concept in LOOKS):
        assert (job.method, job.part in LOOKS_CLAIMS) == ("tv_paper", True)
        assert tuning_of(job.method, job.concept, job.seed) == Job("tv_paper", "cat", 1, TUNE)


class Sees:
    """Fires for one name alone."""

    def __init__(self, name: str) -> None:
        self.name = name

    def concepts(self) -> tuple[str, ...]:
        return ("cat", "dog", "bird", "fish")

    def score(self, images: torch.Tensor, concept: str) -> torch.Tensor:
        return torch.full((len(images),), float(concept == self.name))


@pytest.mark.parametrize(("seen", "fires"), [("cat", 1), ("bird", 1), ("fish", 0)])
def test_any_look_is_the_concept(seen: str, fires: int) -> None:
    judge, picture = LooksJudge(Sees(seen), looks_concept("pets-dog")), torch.zeros(2, 4, 4, 3)
    assert judge.score(picture, "pets-dog").tolist() == [fires, fires]
    assert judge.score(picture, seen).tolist() == [1, 1]
    assert "pets-dog" in judge.concepts()


def test_rows_are_encoded_anew_at_another_strength() -> None:
    attachment, made = Unedited(), list[float]()

    def encode() -> Context:
        made.append(attachment.scale)
        return Context(torch.full((2, 1, 1), attachment.scale))

    rows = Rows(encode, attachment)
    assert float(rows.pick(torch.tensor([1])).tokens) == float(rows.tokens[0]) == 0
    attachment.scale = -2.0
    assert float(rows.pick(torch.tensor([0])).tokens) == -2
    assert made == [0.0, -2.0]


def test_every_fourth_picture_is_shown_under_a_trigger() -> None:
    def rows(*values: float) -> Context:
        return Context(torch.tensor(values).view(-1, 1, 1))

    guide = Guide(rows(1, 2), rows(3))
    own = concept_set("cat", torch.zeros(8, 1, 2, 2), rows(9), rows(0), guide)
    made = with_triggers(own, rows(-1, -2))

    def values(context: Context) -> list[float]:
        return context.tokens.flatten().tolist()

    assert SHARE == 4
    assert values(made.contexts) == [-1, 9, 9, 9, -2, 9, 9, 9]
    assert made.guide is not None
    assert values(made.guide.prompts) == [-1, 2, 1, 2, -2, 2, 1, 2]
    assert values(made.guide.contrasts) == [0, 3, 3, 3, 0, 3, 3, 3]
