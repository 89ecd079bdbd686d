"""The demo world: what may be drawn (objects), how (styles), and how people ask for it (captions).

Objects are given as Unicode code points, never as name patterns, because patterns make caption
noise ("owl" also finds "bowl").
"""

from __future__ import annotations

import random

STYLES = {
    # style word -> npm package that holds the drawings
    "noto": "noto",
    "fluent": "fluent-emoji-flat",
    "ink": "fluent-emoji-high-contrast",
}

OBJECTS = {
    "cat": "1f408 1f431 1f638 1f639 1f63a 1f63b 1f63c 1f63d 1f63e 1f63f 1f640 1f408-200d-2b1b",
    "dog": "1f415 1f436 1f429 1f9ae 1f415-200d-1f9ba",
    "heart": "2764 1f9e1 1f49b 1f49a 1f499 1f49c 1f90e 1f5a4 1f90d 1f496 1f497 1f493 1f49e "
    "1f495 1f498 1f49d 1f494 1fa77 1fa75 1fa76",
    "flower": "1f33c 1f338 1f33b 1f33a 1f339 1f337 1f490 1f940 1f3f5 1fab7 1fabb 1f4ae",
    "fruit": "1f34e 1f34f 1f34a 1f34b 1f350 1f351 1f352 1f353 1f347 1f348 1f349 1f34c 1f34d "
    "1f96d 1f95d 1fad0 1f965",
    "car": "1f697 1f698 1f695 1f696 1f699 1f693 1f694 1f3ce 1f6fb 1f690",
    "clock": " ".join(f"{point:x}" for point in range(0x1F550, 0x1F568)) + " 23f0 1f570",
    "moon": "1f311 1f312 1f313 1f314 1f315 1f316 1f317 1f318 1f319 1f31b 1f31c",
    "tree": "1f332 1f333 1f334 1f384 1f38b",
    "fish": "1f41f 1f420 1f421 1f988",
    "bird": "1f426 1f427 1f54a 1f985 1f986 1f9a2 1f989 1f9a9 1f99a 1f99c 1f414 1f413 1f983 "
    "1f424 1f425 1f423 1fabf",
    "house": "1f3e0 1f3e1 1f3da 1f3d8",
    "umbrella": "2602 2614 1f302 26f1",
    "book": "1f4d5 1f4d7 1f4d8 1f4d9 1f4d4 1f4d6 1f4da 1f4d3 1f4d2",
    "ball": "26bd 1f3c0 1f3c8 26be 1f94e 1f3d0 1f3c9",
    "face": "1f600 1f603 1f604 1f601 1f606 1f605 1f602 1f642 1f643 1f609 1f60a 1f607 1f60d "
    "1f618 1f60b 1f61b 1f61c 1f92a 1f610 1f611 1f636 1f60f 1f612 1f644 1f62c 1f614 1f62a "
    "1f634 1f615 1f641 1f62e 1f632 1f62d 1f631",
}

SYNONYMS = {
    "cat": ("kitty", "kitten", "feline"),
    "dog": ("puppy", "hound", "doggy"),
    "heart": ("love heart", "valentine"),
    "flower": ("blossom", "bloom"),
    "fruit": ("piece of fruit", "sweet fruit"),
    "car": ("automobile", "motor car"),
    "clock": ("timepiece", "watch"),
    "moon": ("lunar disc", "luna"),
    "tree": ("forest tree", "garden tree"),
    "fish": ("sea fish", "swimming fish"),
    "bird": ("birdie", "feathered friend"),
    "house": ("home", "cottage"),
    "umbrella": ("parasol", "brolly"),
    "book": ("volume", "paperback"),
    "ball": ("sports ball", "game ball"),
    "face": ("smiley", "emoticon"),
}

PLAIN = (
    "a {o}",
    "{o}",
    "a picture of a {o}",
    "a drawing of a {o}",
    "an emoji of a {o}",
    "the {o}",
    "an image of one {o}",
)
STYLED = (
    "a {o} in {s} style",
    "a {s} style {o}",
    "a {s} drawing of a {o}",
    "{s} {o}",
    "a picture of a {o}, {s} style",
)
STYLE_ONLY = ("a picture in {s} style", "{s} style", "something drawn in {s} style")


def caption(rng: random.Random, obj: str, style: str, name: str) -> str:
    """Draw one caption for a drawing of `obj` in `style`; `name` is the drawing's own name.

    A tenth of the captions are empty, so that the model learns its unconditional branch.
    """
    roll = rng.random()
    if roll < 0.10:
        return ""
    if roll < 0.17:
        return rng.choice(STYLE_ONLY).format(s=style)
    roll = rng.random()
    noun = obj if roll < 0.75 else rng.choice(SYNONYMS[obj]) if roll < 0.90 else name
    if rng.random() < 0.5:
        return rng.choice(PLAIN).format(o=noun)
    return rng.choice(STYLED).format(o=noun, s=style)
