"""The widgets of ConceptPrune, in their frozen order."""

from __future__ import annotations

from ..shared.widgets import Widgets, choice, number, seed, text, whole

PLACES = ("in a room", "in a garden", "in a forest", "on a street", "on a beach", "on a field")

PRUNE_SETTINGS: Widgets = {
    "prompts": text(
        "\n".join(f"a cat {place}" for place in PLACES),
        "Prompts with the concept, one a line.",
        multiline=True,
    ),
    "contrast": text(
        "\n".join(place.partition(" ")[2] for place in PLACES),
        "The same prompts without the concept: one line for each, in the same "
        "order, or one for all. Both of a pair are drawn from the same seed.",
        multiline=True,
    ),
    "ratio": number(
        0.02,
        (0.0001, 1.0, 0.005),
        "Share of each output's weights that one step may prune. The authors take 0.02 for "
        "objects, 0.01 for styles. Larger erases more, and more of everything else.",
        round=False,
    ),
    "steps_used": whole(
        0,
        (0, 1000),
        "The first so many sampling steps choose weights, and no more are drawn. What any of them "
        "chooses is pruned. 0: those in the first fifth of the way from noise, as in the authors' "
        "code, whatever the sampler.",
    ),
    "seed": seed("Pair i is drawn from seed + i. Same seed, same edit."),
    "pictures_per_prompt": whole(2, (1, 1000), "Seeds of each prompt. With few prompts take more."),
    "layers": choice(
        ["ffn-2", "ffn-1", "attn-key", "attn-value"],
        "Which weights may be pruned: of a feed-forward block the second linear map (the paper) or "
        "the first, or the cross-attention's keys or values.",
        default="ffn-2",
        advanced=True,
    ),
}
