"""Truncated images are decoded as far as they go when most is there; else, and with ``strict``, they are refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xmodal_cli.data.images import ImageReader, open_image
from xmodal_cli.errors import BadImage, Category


def photo(mode: str = "RGB") -> Image.Image:
    """Smooth colors with some noise, so that the bytes of a file are spread evenly over its rows."""
    y, x = np.mgrid[0:120, 0:160]
    noise = np.random.default_rng(0).integers(0, 30, (120, 160, 3))
    colors = np.stack([60 + y, 40 + x, 200 - y], -1) + noise
    image = Image.fromarray(colors.clip(0, 255).astype(np.uint8))
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    if mode in ("RGBA", "LA"):
        image.putalpha(230)
    return image.quantize(100) if mode == "P" else image.convert(mode)


def encoded(kind: str, mode: str = "RGB", **options: object) -> bytes:
    content = io.BytesIO()
    photo(mode).save(content, kind, **options)
    return content.getvalue()


FILES = {
    "jpeg": encoded("JPEG", quality=90),
    "grayscale jpeg": encoded("JPEG", "L", quality=90),
    "cmyk jpeg": encoded("JPEG", "CMYK", quality=90),
    "progressive jpeg": encoded("JPEG", progressive=True, quality=90),
    "png": encoded("PNG"),
    "png with alpha": encoded("PNG", "RGBA"),
    "16-bit png": encoded("PNG", "I;16"),
    "1-bit png": encoded("PNG", "1"),
    "palette png": encoded("PNG", "P", transparency=3),
    "gif": encoded("GIF", "P"),
    "transparent gif": encoded("GIF", "P", transparency=3),
    "webp": encoded("WEBP", quality=90),
    "lossless webp": encoded("WEBP", lossless=True),
    "bmp": encoded("BMP"),
    "ppm": encoded("PPM"),
    "tiff": encoded("TIFF"),
}


def cut(tmp_path: Path, name: str, fraction: float) -> Path:
    path = tmp_path / "a.jpg"
    path.write_bytes(FILES[name][: int(len(FILES[name]) * fraction)])
    return path


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("max_side", [None, 50])
def test_most_of_the_image_is_decoded(tmp_path: Path, name: str, max_side: int | None) -> None:
    (tmp_path / "whole").write_bytes(FILES[name])
    whole = np.asarray(open_image(tmp_path / "whole", max_side)).astype(int)
    reader = ImageReader()
    image = np.asarray(reader.open(cut(tmp_path, name, 0.8), max_side)).astype(int)
    assert image.shape == whole.shape
    same = np.abs(image - whole).max(-1) <= 8
    is_upper = slice(whole.shape[0] // 2, None) if name == "bmp" else slice(0, whole.shape[0] // 2)  # bottom to top
    if name != "progressive jpeg":
        assert same[is_upper].mean() > 0.95
    assert np.abs(image - whole).mean() < 45
    (defect,) = reader.defects
    assert (defect.path, defect.category) == (tmp_path / "a.jpg", Category.DAMAGED)
    assert "the file is truncated: " in defect.reason and "% of the image is missing" in defect.reason


@pytest.mark.parametrize("name", [name for name in FILES if name != "progressive jpeg"])
def test_an_image_of_which_little_is_there_is_refused(tmp_path: Path, name: str) -> None:
    reader = ImageReader()
    with pytest.raises(BadImage, match=r"a\.jpg cannot be opened") as error:
        reader.open(cut(tmp_path, name, 0.3))
    assert (error.value.category, error.value.may_change, reader.defects) == (Category.DAMAGED, False, [])


@pytest.mark.parametrize("name", FILES)
def test_strict_refuses_truncated_images(tmp_path: Path, name: str) -> None:
    reader = ImageReader(strict=True)
    with pytest.raises(BadImage, match=r"a\.jpg is truncated: .*% of the image is missing") as error:
        reader.open(cut(tmp_path, name, 0.9))
    assert error.value.may_change  # it can be used without --strict
    (tmp_path / "whole").write_bytes(FILES[name])
    assert reader.open(tmp_path / "whole").size == (160, 120)


def test_a_jpeg_that_lacks_only_its_end_marker_is_complete(tmp_path: Path) -> None:
    for color in ((128, 128, 128), (0, 0, 0), (90, 140, 60)):  # gray is also the color of missing blocks
        content = io.BytesIO()
        Image.new("RGB", (160, 120), color).save(content, "JPEG")
        (tmp_path / "a.jpg").write_bytes(content.getvalue()[:-2])
        reader = ImageReader()
        assert np.abs(np.asarray(reader.open(tmp_path / "a.jpg")).astype(int) - color).max() <= 2
        assert len(reader.defects) == 1


def test_missing_rows_are_gray(tmp_path: Path) -> None:
    for name in ("jpeg", "png", "gif"):
        assert ImageReader().open(cut(tmp_path, name, 0.7)).getpixel((80, 119)) == (128, 128, 128), name


def test_complete_images_have_no_defects(tmp_path: Path) -> None:
    reader = ImageReader()
    for name in FILES:
        reader.open(cut(tmp_path, name, 1.0), 50)
    assert reader.defects == []


def test_damaged_bytes_in_the_middle_of_a_png(tmp_path: Path) -> None:
    content = bytearray(FILES["png"])
    start = len(content) * 3 // 4
    content[start : start + 40] = bytes(40)
    (tmp_path / "a.png").write_bytes(content)
    reader = ImageReader()
    assert reader.open(tmp_path / "a.png").size == (160, 120)
    assert [defect.category for defect in reader.defects] == [Category.DAMAGED]
