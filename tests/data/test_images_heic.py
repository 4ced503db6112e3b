"""HEIC photos with pillow-heif, and the error without it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xmodal_cli.data.image_content import missing_plugin
from xmodal_cli.data.image_names import is_image_name
from xmodal_cli.data.images import image_size, open_image
from xmodal_cli.errors import BadData
from xmodal_cli.shell_commands import install_command

QUARTERS = np.array([[(255, 0, 0), (0, 160, 0)], [(0, 0, 255), (255, 255, 255)]], np.uint8)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """64 x 32 pixels in HEIC, stored upright."""
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    path = tmp_path / "a.HEIC"
    Image.fromarray(QUARTERS.repeat(16, axis=0).repeat(32, axis=1)).save(path, format="HEIF", quality=90)
    return path


@pytest.fixture
def without_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # importing it fails


def test_heic_photos_open(photo: Path) -> None:
    image = open_image(photo)
    assert (image.mode, image.size, image_size(photo)) == ("RGB", (64, 32), (64, 32))
    pixels = np.asarray(image)[8::16, 16::32].astype(int)
    assert np.abs(pixels - QUARTERS).max() <= 16


def test_heic_content_opens_with_another_suffix(photo: Path) -> None:
    renamed = photo.rename(photo.with_name("b.jpg"))
    assert open_image(renamed, 16).size == (64, 32)


def test_a_truncated_heic_photo_is_an_error(photo: Path) -> None:
    photo.write_bytes(photo.read_bytes()[:200])
    with pytest.raises(BadData, match=r"a\.HEIC cannot be opened: "):
        open_image(photo)


@pytest.mark.parametrize("read", [open_image, image_size])
def test_without_pillow_heif_the_hint_is_to_install_it(tmp_path: Path, without_heif: None, read) -> None:
    path = tmp_path / "a.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    assert missing_plugin("HEIF") == "heic"
    with pytest.raises(BadData, match="need the package pillow-heif") as caught:
        read(path)
    assert install_command("pillow-heif") in caught.value.hint


def test_names() -> None:
    assert all(is_image_name(name) for name in ("a.heic", "x/b.HEIF", "c.hif"))
    assert not is_image_name("x/.a.heic")
