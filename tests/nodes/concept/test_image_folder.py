"""Load Images from Folder: order, size, colours, and sentences for what cannot be loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
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


DEEP_GREY = {
    "16 bits": (np.uint16, 65535),
    "32-bit integers": (np.int32, 65535),
    "floats to 1": (np.float32, 1),
    "floats to 255": (np.float32, 255),
}


@pytest.mark.parametrize("kind", DEEP_GREY)
def test_deep_grey_keeps_its_greys(node: Any, folder: Path, kind: str) -> None:
    dtype, white = DEEP_GREY[kind]
    ramp = np.linspace(0, 1, 64, dtype=np.float64).repeat(64).reshape(64, 64).T
    picture = Image.fromarray((ramp * white).astype(dtype))
    assert picture.mode[0] in "IF"
    # Pillow looks into a file, not at its ending; only TIFF holds floats.
    picture.save(folder / "a.png", format="PNG" if dtype == np.uint16 else "TIFF")
    images, _ = node.load(name_of(folder), 64, 64, 9)
    meant = torch.from_numpy(ramp).float()[..., None].expand(64, 64, 3)
    torch.testing.assert_close(images[0], meant, rtol=0, atol=0.01)


def test_it_tells_of_each_picture_and_can_be_cancelled(
    node: Any, folder: Path, comfy_host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tverase_pack.nodes.concept import image_folder as image_folder_nodes
    from tverase_pack.nodes.host.app import progress

    for name in "abcd":
        Image.new("RGB", (16, 16)).save(folder / f"{name}.png")
    told: list[tuple[int, int]] = []
    plain = progress.NodeProgress.__call__

    def tell(self: Any, done: int, total: int, message: str = "") -> None:
        told.append((done, total))
        plain(self, done, total, message)

    monkeypatch.setattr(progress.NodeProgress, "__call__", tell)
    node.load(name_of(folder), 16, 16, 9)
    assert told == [(k, 4) for k in range(5)]
    management, fitted, read = comfy_host.comfy.model_management, image_folder_nodes.fitted, []

    def cancel_at_two(path: Path, *size: int) -> torch.Tensor:
        read.append(path.name)
        management.interrupt_current_processing(len(read) == 2)
        return fitted(path, *size)

    monkeypatch.setattr(image_folder_nodes, "fitted", cancel_at_two)
    try:
        with pytest.raises(management.InterruptProcessingException):
            node.load(name_of(folder), 16, 16, 9)
    finally:
        management.interrupt_current_processing(False)
    assert read == ["a.png", "b.png"]


def test_a_folder_that_another_node_names_is_checked_when_it_is_there(node: Any) -> None:
    assert node.VALIDATE_INPUTS(None) is True
    assert node.IS_CHANGED(None) != node.IS_CHANGED(None)  # nobody knows: load again


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


def test_a_picture_that_is_too_large_to_open_is_named(
    node: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (32, 32)).save(folder / "vast.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # twice as many are an error
    with pytest.raises(ConfigError, match=r"vast\.png.*smaller"):
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
