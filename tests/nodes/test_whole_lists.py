"""Lists of pictures make one set, as the host hands them over; pictures of every common kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tverase_core.errors import ConfigError, EmptyConceptSetError, ShapeMismatchError

Make = Callable[..., Any]


class Vae:
    """Latents [n, 4, h / 8, w / 8] that hold each picture's mean colours and a zero."""

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        assert images.shape[-1] == 3
        colours = torch.nn.functional.avg_pool2d(images.movedim(-1, 1), 8)
        return torch.cat([colours, torch.zeros_like(colours[:, :1])], 1)


def run(pack: Any, name: str, **inputs: list[Any]) -> list[Any]:
    """Every result of the node, called by the host's own mapping over lists."""
    import asyncio

    import execution

    cls = pack.NODE_CLASS_MAPPINGS[f"TVErase{name}"]
    call = getattr(execution, "_async_map_node_over_list", None)
    with torch.inference_mode():
        if call is None:
            return execution._map_node_over_list(cls(), inputs, cls.FUNCTION)
        return asyncio.run(call("p", "1", cls(), inputs, cls.FUNCTION))


def coloured(value: float, count: int = 1, size: int = 64, channels: int = 3) -> torch.Tensor:
    return torch.full((count, size, size, channels), value)


def of_images(pack: Any, model: Any, clip: Any, images: list[Any], **more: list[Any]) -> Any:
    given = {"model": [model], "clip": [clip], "vae": [Vae()], "concept": ["cat"], "caption": [""]}
    (made,) = run(pack, "ConceptSetFromImages", **{**given, "images": images, **more})
    return made[0]


def test_a_list_of_pictures_is_one_set(pack: Any, make_tiny_model: Make, tiny_clip: Any) -> None:
    """Members may be batches: as one batch of all, in order."""
    parts = [coloured(0.1), coloured(0.2, 2), coloured(0.3)]
    made = of_images(pack, make_tiny_model(), tiny_clip, parts)
    whole = of_images(pack, make_tiny_model(), tiny_clip, [torch.cat(parts)])
    assert len(made) == 4
    assert torch.equal(made.latents, whole.latents)
    assert made.digest == whole.digest


def test_a_list_of_latents_is_one_set(pack: Any, make_tiny_model: Make, tiny_clip: Any) -> None:
    latents = [{"samples": torch.full((1, 4, 8, 8), float(i))} for i in range(3)]
    given = {"model": [make_tiny_model()], "clip": [tiny_clip], "concept": ["cat"]}
    (made,) = run(pack, "ConceptSetFromLatents", **given, latents=latents, caption=[""])
    means = made[0].latents.mean((1, 2, 3)) / 0.18215
    assert means.tolist() == pytest.approx([0, 1, 2])


def test_a_caption_for_each_picture(pack: Any, make_tiny_model: Make, tiny_clip: Any) -> None:
    """As the stock Load Image-Text Dataset gives them."""
    model, pictures = make_tiny_model(), [coloured(0.1 * i) for i in range(3)]
    names = ["a cat", "two cats", "a cat on a mat"]
    made = of_images(pack, model, tiny_clip, pictures, caption=names)
    for i, name in enumerate(names):
        one = of_images(pack, model, tiny_clip, pictures[:1], caption=[name])
        assert torch.equal(made.contexts.tokens[i], one.contexts.tokens[0])
    with pytest.raises(ConfigError, match="2 captions for 3 pictures"):
        of_images(pack, model, tiny_clip, pictures, caption=names[:2])


def test_what_cannot_be_one_set(pack: Any, make_tiny_model: Make, tiny_clip: Any) -> None:
    model = make_tiny_model()
    with pytest.raises(
        ShapeMismatchError, match=r"number 2 of 2 .* 32x32x3, the first has 64x64x3"
    ):
        of_images(pack, model, tiny_clip, [coloured(0.1), coloured(0.1, size=32)])
    with pytest.raises(ConfigError, match="`concept` is a list of 2"):
        of_images(pack, model, tiny_clip, [coloured(0.1)], concept=["cat", "dog"])
    with pytest.raises(EmptyConceptSetError, match="no pictures"):
        of_images(pack, model, tiny_clip, [])


def test_a_list_of_examples_is_one_judge(pack: Any) -> None:
    """Of any size: the vision model brings them to its own."""

    class Vision:
        def encode_image(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            assert images.shape[-1] == 3
            return {"image_embeds": images.mean((1, 2))}

    red, blue = torch.zeros(1, 8, 8, 3), torch.zeros(2, 16, 16, 3)
    red[..., 0], blue[..., 2] = 1, 1
    examples = [red * (1 - 0.01 * i) for i in range(6)]
    counter = [blue * (1 - 0.01 * i) for i in range(3)]
    given = {"clip_vision": [Vision()], "concept": ["red"], "counter_examples": counter}
    (made,) = run(pack, "JudgeFromExamples", **given, examples=examples)
    judge, report = made
    assert "of 6 left-out examples" in report
    assert "of 6 left-out counter-examples" in report
    assert float(judge.score(red, "red")[0]) > 0.5


def test_lists_are_one_grid(pack: Any) -> None:
    before, after = [coloured(0.1)] * 3, [coloured(0.9, 3)]
    answers = run(pack, "BeforeAfterGrid", before=before, after=after, title=[""], columns=[8])
    assert len(answers) == 1
    one = run(
        pack, "BeforeAfterGrid", before=[coloured(0.1, 3)], after=after, title=[""], columns=[8]
    )
    assert torch.equal(answers[0]["result"][0], one[0]["result"][0])


KINDS = {
    "grey": (coloured(0.25, channels=1), 0.25),
    "half transparent": (torch.cat([coloured(0.5), coloured(0.5, channels=1)], -1), 0.75),
    "hidden colour": (torch.cat([coloured(0.9), coloured(0.0, channels=1)], -1), 1.0),
    "resampled": (coloured(1.04), 1.04),
}


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_every_kind_are_seen_as_they_look(
    pack: Any, make_tiny_model: Make, tiny_clip: Any, kind: str
) -> None:
    """Transparent parts are white, as Load Images from Folder has them."""
    images, seen = KINDS[kind]
    made = of_images(pack, make_tiny_model(), tiny_clip, [images])
    assert float(made.latents[:, :3].mean()) / 0.18215 == pytest.approx(seen, rel=1e-4)


@pytest.mark.parametrize(
    ("images", "error", "said"),
    [
        (coloured(200.0), ConfigError, "from 200 to 200 .*Divide"),
        (coloured(1.0).to(torch.uint8), ConfigError, "uint8"),
        (coloured(-1.0), ConfigError, "from -1 to -1"),
        (coloured(0.5, channels=2), ShapeMismatchError, r"got \[1, 64, 64, 2\]"),
        (coloured(0.5)[0], ShapeMismatchError, r"got \[64, 64, 3\]"),
    ],
)
@pytest.mark.parametrize("place", ["concept set", "judge", "grid"])
def test_what_is_no_picture_is_refused(
    pack: Any,
    make_tiny_model: Make,
    tiny_clip: Any,
    images: torch.Tensor,
    error: type[Exception],
    said: str,
    place: str,
) -> None:
    judged = {"clip_vision": [None], "concept": ["cat"], "counter_examples": [images]}
    drawn = {"after": [images], "title": [""], "columns": [8]}
    runs = {
        "concept set": lambda: of_images(pack, make_tiny_model(), tiny_clip, [images]),
        "judge": lambda: run(pack, "JudgeFromExamples", examples=[images], **judged),
        "grid": lambda: run(pack, "BeforeAfterGrid", before=[images], **drawn),
    }
    with pytest.raises(error, match=said):
        runs[place]()
