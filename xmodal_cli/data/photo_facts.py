"""Size and date of a photo, from the header of its file."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from PIL import Image

from xmodal_cli.data.images import ImageReader
from xmodal_cli.errors import BadImage

_EXIF, _DATE_TIME_ORIGINAL = 0x8769, 0x9003  # EXIF tags: the folder of those of the photo, and when it was taken


@dataclass(frozen=True)
class PhotoFacts:
    """``width`` and ``height`` of the upright photo in pixels, ``taken`` in ISO 8601 without zone or None.

    ``width`` and ``height`` are 0 for a header that is damaged, None for a file that cannot be read now.
    """

    width: int | None = None
    height: int | None = None
    taken: str | None = None


def read_photo_facts(path: Path) -> PhotoFacts:
    """Read the header of an image file."""
    try:
        (width, height), exif = ImageReader().size_and_exif(path)
    except BadImage as error:
        return PhotoFacts() if error.may_change else PhotoFacts(0, 0)
    return PhotoFacts(width, height, _taken(exif))


def _taken(exif: Image.Exif) -> str | None:
    try:
        value = exif.get_ifd(_EXIF).get(_DATE_TIME_ORIGINAL, "")
        return datetime.strptime(str(value).strip("\0 "), "%Y:%m:%d %H:%M:%S").isoformat()
    except Exception:  # on damaged EXIF data Pillow raises errors of any type
        return None
