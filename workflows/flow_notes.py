"""What the notes of workflows for flow-matching transformers say."""

from __future__ import annotations

from workflows import notes
from workflows.flow_family import Family
from workflows.graph_parts import Recipe

FILES = "Choose the files in the loaders first; their names are those of ComfyUI's own templates."
DISTILLATE = """**{file}** draws in {steps} steps, and a fine-tune would undo what makes it fast. \
So the vector is learned on **{base}**, and subtracted from the other. **other_weights** is \
*allow*, since their weights differ: Apply Negated TV says how far the two are apart."""
STAGE_2 = """### 2 Learn it
A change of rank {rank} in each matrix{where}. Half of the pictures are shown under *empty* \
captions, half under their own prompts; the **retained set** holds pictures of what must stay; \
**guidance** learns what guidance adds for these prompts. The recipe is the one that worked best \
on the demo transformer. On this model nobody has measured it, nor the rate and the number of \
steps: they are a place to begin.

**Save Task Vector** has a **max_error** of 0.01, which keeps such a change whole and the file \
small. The stock *Load LoRA (Model Only)* node erases with it at a *negative* strength."""
ATTENTION = ", of attention alone (**Block Mask**), so that the difference fits into main memory"
STAGE_3 = """### 3 Subtract
{strength:g} is where to begin, not an answer. Look at the grids, then go up or down by 0.25. Only \
this node and the *after* row of each grid run again."""
FEW_STEPS = """ At CFG 1 a strength does more than at the CFG of the base, hence the low number."""


def about(family: Family, recipe: Recipe) -> str:
    """The note that opens the graph."""
    memory, passes = family.memory, round(family.passes(), -2)
    parts = [f"# {family.title}", family.lead.format(concept=recipe.concept)]
    if family.used:
        file, draw = family.used
        parts.append(DISTILLATE.format(file=file, base=family.file, steps=draw["steps"]))
    parts += [
        f"{FILES} {family.host}",
        notes.ANOTHER + notes.STAYS,
        f"**Memory**, estimated by the node's own plan, not measured: {memory.weights:g} GiB of "
        f"weights and at most {memory.card:g} GiB beside them at {family.size} x {family.size} "
        "pixels, with gradient checkpointing, which turns itself on when it is needed; and "
        f"{memory.main:g} GiB of main memory. Smaller pictures need less.",
        f"**Time**, reckoned and not timed: {passes:,} passes through {family.billions:g} billion "
        f"weights until the vector is there, {_hours(family.hours())} at 100 TFLOP/s. The nodes "
        "show the seconds left. For a first look set 4 pictures and 10 steps in stages 1 and 2.",
    ]
    if family.extra:
        parts.append(family.extra)
    return "\n\n".join(parts)


def _hours(hours: float) -> str:
    """In halves of an hour: it is no more certain than that."""
    rounded = max(round(2 * hours) / 2, 0.5)
    if rounded <= 1:
        return "half an hour" if rounded == 0.5 else "about an hour"
    return f"about {rounded:g} hours"


def stage_2(family: Family) -> str:
    rank = family.recipe.tune["rank"]
    return STAGE_2.format(rank=rank, where=ATTENTION if family.attention else "")


def stage_3(family: Family) -> str:
    return STAGE_3.format(strength=family.strength) + (FEW_STEPS if family.used else "")
