"""The edits that are compared, each a task vector of the flow demo model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.erasure.arithmetic import in_float32
from bench.erasure.automatic import Job, defaults, learned, learned_pictures
from bench.flow_parts.settings import FINETUNE, Settings

RANK = 16
PAPER = {"guidance": 0.0, "least_noise": 0.0, "rate_schedule": "constant"}
Candidates = dict[str, Any]  # task vectors by name, of which the bench keeps one


def guided(job: Job, _: Settings) -> Candidates:
    """The graph's own recipe: guided targets, half captioned, a retained set."""
    return {"guided": learned(job)[1]}


@in_float32()
def paper(job: Job, _: Settings) -> Candidates:
    """As in arXiv 2404.03631, with the graph's steps and rate: empty captions, nothing retained."""
    pictures = learned_pictures(job, caption="", caption_share=1.0, contrast="")
    settings = job.settings(FINETUNE, **PAPER)
    return {"paper": job.nodes[FINETUNE]().tune(job.model, pictures, **settings)["result"][2]}


def low_rank(job: Job, settings: Settings) -> Candidates:
    """The graph's recipe as a change of rank 16 in each matrix."""
    job.widgets[FINETUNE] |= {"rank": RANK, "learning_rate": settings.rank_rate}
    return {f"rank {RANK}": learned(job)[1]}


def esd(job: Job, settings: Settings) -> Candidates:
    """ESD on the attention, where picture and text meet: the transformer has no layer that reads
    the text alone, as ESD-x trains. Samples are drawn by the model, as its authors do."""
    node, drawing = job.nodes["TVEraseESD"], job.settings("TVEraseAutoStrength")
    chosen = {
        **defaults(node),
        "prompts": "\n".join(job.concept.learned),
        "variant": "selfattn",
        "steps": settings.esd_steps,
        "batch_size": settings.esd_batch,
        "width": drawing["width"],
        "height": drawing["height"],
        "sample_steps": drawing["sampling_steps"],
        "seed": job.seed,
    }
    return {
        f"ESD at {rate:g}": node().erase(job.model, job.clip, **{**chosen, "learning_rate": rate})[
            "result"
        ][0]
        for rate in settings.esd_rates
    }


EDITS: dict[str, Callable[[Job, Settings], Candidates]] = {
    "tv": guided,
    "esd": esd,
    "tv_paper": paper,
    "rank16": low_rank,
}
ATTACKED = ("tv", "esd", "tv_paper")
