"""The widgets of ESD, in their frozen order, with the defaults of its authors' code."""

from __future__ import annotations

from ..shared.widgets import Widget, Widgets, choice, number, seed, text, whole
from .published import size_widgets


def variant_widget(**options: object) -> Widget:
    """Which weights ESD and STEREO train."""
    return choice(
        ["x", "u", "x-strict", "selfattn", "full"],
        "Linear and convolution weights that are trained. x: the cross-attention's; x-strict: its "
        "keys and values alone; u: all others; selfattn: the self-attention's; full: all.",
        default="x",
        **options,
    )


ESD_SETTINGS: Widgets = {
    "prompts": text(
        "a cat", "Prompts of the concept, one a line; one is drawn at each step.", multiline=True
    ),
    "erase_from": text(
        "",
        "Texts that lose the concept and keep the rest, such as 'a cowboy' for the prompt 'a hat': "
        "one a line for each prompt, or one for all. Empty: the prompts themselves.",
        multiline=True,
    ),
    "variant": variant_widget(),
    "steps": whole(200, (1, 100000), "Optimizer steps."),
    "learning_rate": number(
        5e-5,
        (1e-8, 1.0, 1e-6),
        "The authors' code: 5e-5 for Stable Diffusion 1; for XL 2e-4 (x and x-strict) or 1e-5. "
        "The demo model wants 1e-4.",
        round=False,
    ),
    "batch_size": whole(1, (1, 1024), "Samples a step."),
    "seed": seed("Same seed, same edit."),
    "eta": number(
        2.0,
        (0.01, 100.0, 0.05),
        "How far away from the concept to steer. The authors' code: 2 for Stable Diffusion 1, 1 "
        "for XL.",
        advanced=True,
    ),
    "anchor": choice(
        ["null", "concept"],
        "Where the target starts from: the text that is shown, as in the authors' code, or the "
        "empty prompt, as in the paper; eta 2 from the one is eta 1 from the other.",
        default="concept",
        advanced=True,
    ),
    **size_widgets(),
    "sample_guidance": number(
        3.0,
        (0.0, 100.0, 0.1),
        "Without `concept_set`: guidance with which noisy samples are drawn. The authors' code: 3, "
        "for XL 2.",
        advanced=True,
    ),
    "sample_steps": whole(
        50,
        (1, 1000),
        "Without `concept_set`: steps from noise to picture; a sample stops at a random one.",
        advanced=True,
    ),
}
