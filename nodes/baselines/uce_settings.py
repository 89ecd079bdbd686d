"""The widgets of UCE and of its debiasing, in their frozen order; defaults of the authors' code."""

from __future__ import annotations

from ..shared.widgets import Widget, Widgets, choice, number, seed, switch, text, whole

KEEP: Widget = number(
    0.5,
    (1e-4, 1000.0, 0.05),
    "Pull of every weight towards its old value. Smaller edits more.",
    advanced=True,
)
PRESERVE: Widget = text("", "Names that must stay as they are, one a line.", multiline=True)
PRESERVE_WEIGHT: Widget = number(
    1.0,
    (0.0, 1000.0, 0.05),
    "Weight of the preserved names against the edited ones.",
    advanced=True,
)

UCE_SETTINGS: Widgets = {
    "concepts": text("cat", "Names to erase, one a line.", multiline=True),
    "guide": text(
        "",
        "What a concept shall act like, such as 'animal': one a line for each concept, or one for "
        "all. Empty: like no prompt; for styles like 'art'.",
        multiline=True,
    ),
    "preserve": PRESERVE,
    "kind": choice(
        ["object", "style"],
        "What the concepts are. It sets the empty guide, and the sentences of `expand`.",
        default="object",
    ),
    "expand": switch(
        False,
        "Erase each name also in five sentences that end in it. As a rule more is erased, and more "
        "of everything else.",
    ),
    "keep": KEEP,
    "preserve_weight": PRESERVE_WEIGHT,
    "erase_weight": number(1.0, (0.0, 1000.0, 0.05), "Weight of the erased names.", advanced=True),
    "form": choice(
        ["2025", "2023"],
        "Which of the authors' codes to follow. 2025: a name is its last token. 2023, the "
        "paper's: it is all positions from its last token to the end of the text, preserved names "
        "are kept whole, and so is the empty text.",
        default="2025",
        advanced=True,
    ),
}

DEBIAS_SETTINGS: Widgets = {
    "prompts": text(
        "a pet", "Prompts whose pictures shall show all attributes, one a line.", multiline=True
    ),
    "attributes": text(
        "cat | 0.5\ndog | 0.5",
        "What the pictures shall show, one a line: a name that the judge knows, a bar, and its "
        "share. The shares sum to 1.",
        multiline=True,
    ),
    "preserve": PRESERVE,
    "rounds": whole(30, (1, 1000), "How often to draw, count and edit again, at most."),
    "pictures_per_prompt": whole(
        10, (1, 1000), "Pictures of each prompt that are counted in a round."
    ),
    "tolerance": number(
        0.05,
        (0.001, 1.0, 0.01),
        "A prompt whose shares are all nearer than this to the wanted ones is left as it is. With "
        "few pictures a share moves in large steps: with 10 it is a multiple of 0.1.",
    ),
    "seed": seed("Round k draws from seeds of its own. Same seed, same edit."),
    "keep": KEEP,
    "preserve_weight": PRESERVE_WEIGHT,
}
