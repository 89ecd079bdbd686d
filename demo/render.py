"""Bring the emoji sets from npm and rasterise them: drawings as uint8 pictures with labels."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from world import OBJECTS, STYLES

SIZE = 64
MARGIN = 3  # pixels around the drawing: room for the shift augmentation
BACKGROUND = (235, 236, 240)  # not white: white hearts and doves must stay visible
INK = "#222222"
# Not ours, but too like one of ours to be called "other": more faces, cats, hearts, moons, birds.
LOOKALIKES = {
    f"{point:x}"
    for low, high in (
        (0x1F600, 0x1F64F),
        (0x1F910, 0x1F92F),
        (0x1F970, 0x1F97A),
        (0x1FAE0, 0x1FAEF),
        (0x1F311, 0x1F31F),
        (0x1F493, 0x1F49F),
        (0x1F430, 0x1F43F),
        (0x1F32D, 0x1F3D0),
    )
    for point in range(low, high + 1)
} | {
    "2639",
    "263a",
    "1f3d6",
    "1f6d6",
    "26f5",
    "2763",
    "1f9e1",
    "1f479",
    "1f47a",
    "1f47b",
    "1f47d",
    "1f916",
    "1f4a9",
}
VERSIONS = {
    "noto": "1.2.9",
    "fluent-emoji-flat": "1.2.6",
    "fluent-emoji-high-contrast": "1.2.6",
}


@dataclass(frozen=True)
class Drawings:
    """pictures uint8 [n, 64, 64, 3]; per picture the object, the style and the drawing's name."""

    pictures: np.ndarray
    objects: tuple[str, ...]
    styles: tuple[str, ...]
    names: tuple[str, ...]


def fetch_set(package: str, folder: Path) -> Path:
    """Download one icon set with npm (once) and return the folder that holds its JSON files."""
    target = folder / f"{package}-{VERSIONS[package]}"
    if not (target / "package" / "icons.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        spec = f"@iconify-json/{package}@{VERSIONS[package]}"
        packed = subprocess.run(
            ["npm", "pack", "--silent", spec],
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
        )
        with tarfile.open(folder / packed.stdout.strip()) as archive:
            archive.extractall(target, filter="data")
    return target / "package"


def rasterise(icon: dict, width: int, height: int, margin: int = MARGIN) -> np.ndarray:
    """Draw one icon on the background with `margin` pixels around it, uint8 [SIZE, SIZE, 3]."""
    import resvg_py

    width, height = icon.get("width", width), icon.get("height", height)
    box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
    side = SIZE - 2 * margin
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'color="{INK}" viewBox="{box}" width="{side}" height="{side}">{icon["body"]}</svg>'
    )
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=side, height=side))
    drawing = Image.open(io.BytesIO(png)).convert("RGBA")
    canvas = Image.new("RGB", (SIZE, SIZE), BACKGROUND)
    canvas.paste(drawing, ((SIZE - drawing.width) // 2, (SIZE - drawing.height) // 2), drawing)
    return np.asarray(canvas)


def load_drawings(folder: Path, margin: int = MARGIN) -> Drawings:
    """All drawings of all objects in all styles, in a fixed order."""
    wanted = [(obj, point) for obj, points in OBJECTS.items() for point in points.split()]
    return _collect(folder, wanted, margin)


def load_others(folder: Path, margin: int = MARGIN) -> Drawings:
    """Drawings of things that are none of our objects: every sixth other character."""
    ours = {point for points in OBJECTS.values() for point in points.split()}
    chars = json.loads((fetch_set(STYLES["ink"], folder) / "chars.json").read_text())
    others = [p for p in sorted(chars) if p not in ours and p.split("-")[0] not in LOOKALIKES]
    return _collect(folder, [("", point) for point in others[::6]], margin, skip_missing=True)


def _collect(
    folder: Path, wanted: list[tuple[str, str]], margin: int, skip_missing: bool = False
) -> Drawings:
    pictures, objects, styles, names = [], [], [], []
    for style, package in STYLES.items():
        source = fetch_set(package, folder)
        icons = json.loads((source / "icons.json").read_text())
        chars = json.loads((source / "chars.json").read_text())
        aliases = icons.get("aliases", {})
        for obj, point in wanted:
            name = chars.get(point) or chars.get(f"{point}-fe0f", point)
            name = aliases.get(name, {}).get("parent", name)
            if name not in icons["icons"] and skip_missing:
                continue
            icon = icons["icons"][name]
            size = icons.get("width", 16), icons.get("height", 16)
            pictures.append(rasterise(icon, *size, margin))
            objects.append(obj)
            styles.append(style)
            names.append(name.replace("-", " "))
    return Drawings(np.stack(pictures), tuple(objects), tuple(styles), tuple(names))


def shifted(pictures: np.ndarray, dx: int, dy: int) -> np.ndarray:
    """The pictures moved by (dx, dy) pixels, |d| <= MARGIN, the background filled in."""
    moved = np.empty_like(pictures)
    moved[:] = np.array(BACKGROUND, dtype=pictures.dtype)
    height, width = pictures.shape[1:3]
    ys, yd = slice(max(0, -dy), height - max(0, dy)), slice(max(0, dy), height - max(0, -dy))
    xs, xd = slice(max(0, -dx), width - max(0, dx)), slice(max(0, dx), width - max(0, -dx))
    moved[:, yd, xd] = pictures[:, ys, xs]
    return moved
