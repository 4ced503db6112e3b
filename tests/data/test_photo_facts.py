"""Size and date in the header of a photo."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from PIL import Image

from xmodal_cli.data import photo_facts
from xmodal_cli.data.photo_facts import PhotoFacts, read_photo_facts
from xmodal_cli.errors import BadImage

_ORIENTATION, _EXIF, _TAKEN = 0x0112, 0x8769, 0x9003


def photo(path: Path, taken: object = None, orientation: int = 1) -> Path:
    image, exif = Image.new("RGB", (30, 20)), Image.Exif()
    exif[_ORIENTATION] = orientation
    if taken is not None:
        exif.get_ifd(_EXIF)[_TAKEN] = taken
    image.save(path, exif=exif)
    return path


def test_size_and_date(tmp_path: Path) -> None:
    file = photo(tmp_path / "a.jpg", "2019:02:03 04:05:06", orientation=6)
    assert read_photo_facts(file) == PhotoFacts(20, 30, "2019-02-03T04:05:06")


@pytest.mark.parametrize("taken", [None, "", "0000:00:00 00:00:00", "yesterday", "2019:13:01 00:00:00"])
def test_dates_that_are_none(tmp_path: Path, taken: object) -> None:
    assert read_photo_facts(photo(tmp_path / "a.jpg", taken)) == PhotoFacts(30, 20, None)


def test_damaged_files_differ_from_those_that_cannot_be_read_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "damaged.jpg").write_bytes(b"not a photo")
    assert read_photo_facts(tmp_path / "damaged.jpg") == PhotoFacts(0, 0)
    assert read_photo_facts(tmp_path / "none.jpg") == PhotoFacts(None, None)

    def denied(self: object, path: Path) -> None:
        raise BadImage(os.strerror(errno.EACCES), may_change=True)

    monkeypatch.setattr(photo_facts.ImageReader, "size_and_exif", denied)
    assert read_photo_facts(photo(tmp_path / "a.jpg")) == PhotoFacts()
