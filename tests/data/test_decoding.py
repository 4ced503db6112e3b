"""Which image files have other pixels in an older version of decoding."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.icc_profiles import GRAY, LINEAR, SWAPPED
from PIL import Image, ImageCms

from xmodal_cli.data.decoding import DECODING, DECODING_BEFORE, Past, is_decoded_alike, must_decode_again


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_only_images_with_a_profile_differ(tmp_path: Path, suffix: str) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    alike = {"plain": None, "srgb": srgb, "damaged": b"not a profile"}
    for name, profile in (alike | {"swapped": SWAPPED, "linear": LINEAR}).items():
        path = tmp_path / f"{name}{suffix}"
        Image.new("RGB", (16, 16)).save(path, **({} if profile is None else {"icc_profile": profile}))
        assert is_decoded_alike(path, DECODING_BEFORE) is (name in alike), name
        assert is_decoded_alike(path, DECODING)


def test_every_mode(tmp_path: Path) -> None:
    for mode, profile in (("RGBA", SWAPPED), ("P", SWAPPED), ("L", GRAY), ("LA", GRAY), ("I;16", GRAY), ("L", LINEAR)):
        Image.new(mode, (16, 16)).save(tmp_path / "a.png", icc_profile=profile)
        assert not is_decoded_alike(tmp_path / "a.png", DECODING_BEFORE), mode


def test_files_that_were_not_readable(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    Image.new("RGB", (16, 16)).save(tmp_path / "a.jpg")
    for version in (DECODING, DECODING_BEFORE):
        files = [tmp_path / "a.jpg", tmp_path / "bad.jpg", tmp_path / "gone.jpg"]
        assert not must_decode_again(files, version, Past(files[1:]))
        assert must_decode_again(files, version, Past(files[:1]))
