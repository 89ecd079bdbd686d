"""Widgets that say what of a node's work is kept on disk."""

from __future__ import annotations

from .widgets import Widgets, choice, switch

FINISHED_WORK: Widgets = {
    "finished_work": choice(
        ["reuse", "make anew", "clear"],
        "ComfyUI forgets results when another graph runs or memory is short. reuse: work that was "
        "done before, with the same inputs, settings and models, is taken from "
        "output/finished_work (8 GiB at most, the least used go first). make anew: do it again. "
        "clear: delete all that is kept there, that of other nodes too, then do it.",
        default="reuse",
        advanced=True,
    ),
}

RESUMABLE: Widgets = {
    "resumable": switch(
        False,
        "Keep unfinished work in output/inversion_sets/unfinished: a stopped run "
        "then goes on where it was when queued again. Off, a stopped run leaves nothing.",
        advanced=True,
    ),
}
