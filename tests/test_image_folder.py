"""Load Images from Folder: order, size, colours, and sentences for what cannot be loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tverase_core.errors import ConfigError, EmptyConceptSetError


@pytest.fixture
def node(pack: Any) -> Any:
    return pack.NODE_CLASS_MAPPINGS["TVEraseLoadImageFolder"]()


@pytest.fixture
def folder(comfy_host: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = comfy_host.base / "input" / tmp_path_factory.mktemp("x").name / "my own cats é"
    path.mkdir(parents=True)
    return path


def name_of(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


def stripes(size: tuple[int, int]) -> Image.Image:
    """Red, green and blue side by side; the green is a square in the middle."""
    width, height = size
    picture = Image.new("RGB", size, "red")
    picture.paste("blue", (width // 2, 0, width, height))
    picture.paste((0, 255, 0), ((width - height) // 2, 0, (width + height) // 2, height))
    return picture


def test_the_middle_is_kept(node: Any, folder: Path) -> None:
    stripes((96, 32)).save(folder / "a.png")
    images, count = node.load(name_of(folder), 16, 16, 200)
    assert count == 1
    assert images.shape == (1, 16, 16, 3)
    assert images.dtype == torch.float32
    inner = images[0, 2:-2, 2:-2]
    assert torch.allclose(inner, torch.tensor([0.0, 1.0, 0.0]).expand_as(inner), atol=0.02)


def test_pictures_come_by_name_and_no_more_than_asked(node: Any, folder: Path) -> None:
    for name, colour in (("b.png", "black"), ("a.webp", "white"), ("c.png", "black")):
        Image.new("RGB", (20, 30), colour).save(folder / name, lossless=True)
    (folder / "notes.txt").write_text("not a picture")
    images, count = node.load(name_of(folder), 16, 24, 2)
    assert count == 2
    assert images.mean((1, 2, 3)).tolist() == pytest.approx([1.0, 0.0])


def test_transparent_parts_are_white(node: Any, folder: Path) -> None:
    Image.new("RGBA", (16, 16), (0, 0, 0, 0)).save(folder / "a.png")
    assert float(node.load(name_of(folder), 16, 16, 9)[0].min()) == 1.0


def test_it_lists_folders_of_pictures_only(node: Any, folder: Path) -> None:
    assert name_of(folder) not in node.INPUT_TYPES()["required"]["folder"][0]
    Image.new("RGB", (16, 16)).save(folder / "A.JPG")
    assert name_of(folder) in node.INPUT_TYPES()["required"]["folder"][0]


def test_windows_separators_are_understood(node: Any, folder: Path) -> None:
    Image.new("RGB", (16, 16)).save(folder / "a.png")
    assert node.load(name_of(folder).replace("/", "\\"), 16, 16, 9)[1] == 1


def test_a_new_picture_counts_as_a_change(node: Any, folder: Path) -> None:
    Image.new("RGB", (16, 16)).save(folder / "a.png")
    before = node.IS_CHANGED(name_of(folder))
    assert node.IS_CHANGED(name_of(folder)) == before
    Image.new("RGB", (16, 16)).save(folder / "b.png")
    assert node.IS_CHANGED(name_of(folder)) != before


def test_an_empty_folder_says_so(node: Any, folder: Path) -> None:
    with pytest.raises(EmptyConceptSetError, match="holds no pictures"):
        node.load(name_of(folder), 16, 16, 9)


def test_a_broken_file_is_named(node: Any, folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"\x89PNG but no more")
    with pytest.raises(ConfigError, match=r"broken\.png"):
        node.load(name_of(folder), 16, 16, 9)


@pytest.mark.parametrize("name", ["", ".", "..", "../output", "no such folder"])
def test_only_folders_inside_input_are_read(node: Any, name: str) -> None:
    assert "input folder" in str(node.VALIDATE_INPUTS(name))
    with pytest.raises(FileNotFoundError, match="input folder"):
        node.load(name, 16, 16, 9)


def test_the_shipped_pictures_are_there(node: Any) -> None:
    images, count = node.load("demo: cats", 64, 64, 200)
    assert count == 16
    assert float(images.std()) > 0.1
