"""Embedded ICC profiles are converted to sRGB, in every mode; sRGB profiles change nothing, damaged ones are noted."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from helpers.icc_profiles import GRAY, LINEAR, SWAPPED, icc
from PIL import Image, ImageCms

from xmodal_cli.data.images import ImageReader, normalize_image, open_image
from xmodal_cli.errors import Category

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def linear_to_srgb(level: int) -> int:
    value = level / 255
    return round(255 * (12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
def test_profiles_are_converted_in_every_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.new("RGB", (64, 64), (220, 60, 30)).save(path, icc_profile=SWAPPED, quality=100)
    image = open_image(path)
    assert np.abs(np.asarray(image)[32, 32].astype(int) - (30, 60, 220)).max() <= 6
    assert "icc_profile" not in image.info
    with Image.open(path) as opened:
        assert np.abs(np.asarray(normalize_image(opened, path))[32, 32].astype(int) - (30, 60, 220)).max() <= 6


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "I;16"])
def test_profiles_are_converted_in_every_mode(tmp_path: Path, mode: str) -> None:
    profile = GRAY if mode in ("L", "LA", "I;16") else LINEAR
    levels = np.array([[0, 10, 60, 128, 255]], np.uint8).repeat(4, 0)
    if mode == "I;16":
        image = Image.fromarray(levels.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(levels).convert("L" if mode in ("L", "LA") else "RGB")
        image = image.quantize(8) if mode == "P" else image.convert(mode)
    image.save(tmp_path / "a.png", icc_profile=profile)
    reader = ImageReader()
    pixels = np.asarray(reader.open(tmp_path / "a.png")).astype(int)
    expected = np.array([linear_to_srgb(level) for level in (0, 10, 60, 128, 255)])
    assert np.abs(pixels - expected[None, :, None]).max() <= 2
    assert reader.defects == []


def test_alpha_is_composited_after_the_conversion(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (220, 60, 30, 0)).save(tmp_path / "clear.png", icc_profile=SWAPPED)
    Image.new("RGBA", (8, 8), (220, 60, 30, 255)).save(tmp_path / "solid.png", icc_profile=SWAPPED)
    assert open_image(tmp_path / "clear.png").getpixel((4, 4)) == (255, 255, 255)
    assert np.abs(np.subtract(open_image(tmp_path / "solid.png").getpixel((4, 4)), (30, 60, 220))).max() <= 6


def test_a_profile_of_rgb_on_a_grayscale_image(tmp_path: Path) -> None:
    Image.new("L", (8, 8), 60).save(tmp_path / "a.png", icc_profile=LINEAR)
    assert abs(open_image(tmp_path / "a.png").getpixel((4, 4))[0] - linear_to_srgb(60)) <= 1


def test_an_srgb_profile_changes_no_pixel(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png", icc_profile=SRGB)
    assert np.array_equal(np.asarray(open_image(tmp_path / "a.png")), noise)


@pytest.mark.parametrize(
    "profile", [b"not a profile", SWAPPED[:200], SRGB[:128], icc(space=b"CMYK"), bytes(500)], ids=range(5)
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_damaged_and_wrong_profiles_are_ignored_and_noted(tmp_path: Path, profile: bytes, mode: str) -> None:
    Image.new("RGB", (8, 8), (220, 60, 30)).convert(mode).save(tmp_path / "plain.png")
    Image.new("RGB", (8, 8), (220, 60, 30)).convert(mode).save(tmp_path / "a.png", icc_profile=profile)
    reader = ImageReader(strict=True)
    assert reader.open(tmp_path / "a.png").tobytes() == open_image(tmp_path / "plain.png").tobytes()
    (defect,) = reader.defects
    assert (defect.path, defect.category) == (tmp_path / "a.png", Category.PROFILE)
    assert "its color profile is ignored: " in defect.reason


def test_lab_images(tmp_path: Path) -> None:
    lab = ImageCms.profileToProfile(
        Image.new("RGB", (8, 8), (200, 80, 40)),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    lab.save(tmp_path / "a.tif")
    assert np.abs(np.subtract(open_image(tmp_path / "a.tif").getpixel((4, 4)), (200, 80, 40))).max() <= 4


def test_a_reduced_jpeg_is_converted_and_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGB", (256, 128), (220, 60, 30))
    image.paste((30, 60, 220), (0, 0, 128, 128))
    content = io.BytesIO()
    image.save(content, "JPEG", exif=exif, icc_profile=SWAPPED, quality=95)
    (tmp_path / "a.jpg").write_bytes(content.getvalue())
    opened = open_image(tmp_path / "a.jpg", 32)
    assert opened.size == (32, 64)
    assert np.abs(np.subtract(opened.getpixel((16, 10)), (220, 60, 30))).max() <= 12  # the left half, now on top
