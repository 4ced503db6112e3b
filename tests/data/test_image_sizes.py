"""The limit on pixels: JPEGs at a reduced scale, progressive JPEGs, the setting, and the hint."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from xmodal_cli.data.image_settings import ImageSettings
from xmodal_cli.data.images import ImageReader, image_size, open_image
from xmodal_cli.errors import BadImage, Category


def save(path: Path, size: tuple[int, int], **options: object) -> Path:
    Image.new("RGB", size, (90, 140, 60)).save(path, **options)
    return path


def test_a_jpeg_over_the_limit_is_decoded_at_a_reduced_scale(tmp_path: Path) -> None:
    path, reader = save(tmp_path / "a.jpg", (1600, 1200)), ImageReader(settings=ImageSettings(max_megapixels=1))
    assert reader.open(path, 100).size == (200, 150)
    assert reader.open(path).size == (800, 600)  # no more than the limit
    assert reader.size(path) == (1600, 1200)


def test_other_formats_over_the_limit_are_refused(tmp_path: Path) -> None:
    reader = ImageReader(settings=ImageSettings(max_megapixels=1))
    for path in (save(tmp_path / "a.png", (1600, 1200)), save(tmp_path / "huge.jpg", (5000, 4000))):
        for read in (reader.open, reader.size):
            with pytest.raises(BadImage, match="pixels in its header, more than the 1 million allowed") as error:
                read(path)
            assert (error.value.category, error.value.may_change) == (Category.TOO_LARGE, True)


def test_progressive_jpegs_need_memory_for_their_full_size(tmp_path: Path) -> None:
    reader = ImageReader(settings=ImageSettings(max_megapixels=1))
    assert reader.open(save(tmp_path / "a.jpg", (1200, 1000), progressive=True), 100).size == (150, 125)
    with pytest.raises(BadImage, match="more than the 1 million allowed"):
        reader.open(save(tmp_path / "b.jpg", (2400, 2000), progressive=True), 100)
    assert reader.open(save(tmp_path / "c.jpg", (2400, 2000)), 100).size == (300, 250)


def test_the_hint_is_a_setting_that_helps(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XMODAL_MAX_MEGAPIXELS", "1")
    path = save(tmp_path / "a.png", (1600, 1200))
    with pytest.raises(BadImage) as error:
        open_image(path)
    match = re.search(r"XMODAL_MAX_MEGAPIXELS=(\d+)", error.value.hint)
    assert match is not None
    monkeypatch.setenv("XMODAL_MAX_MEGAPIXELS", match[1])
    assert open_image(path).size == image_size(path) == (1600, 1200)


@pytest.mark.slow
def test_a_photo_of_200_megapixels(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", (16320, 12240), quality=30)
    assert image_size(path) == (16320, 12240)
    assert open_image(path, 520).size == (2040, 1530)
