"""The version of how image files become pixels, and which files have other pixels in an older version.

Vectors and features of different versions must not be mixed, but only few files differ: those with a color profile, and
those that could not be read. The others are kept. Pillow is imported only if a file has to be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xmodal_cli.errors import BadImage, Category

DECODING = "srgb-2"  # color profiles are converted to sRGB, truncated images decoded
DECODING_BEFORE = "rgb-1"  # the name where none is recorded
VERSIONS = (DECODING_BEFORE, DECODING)  # oldest first; others are those of a newer xmodal

_THREADS = 8


@dataclass(frozen=True)
class Past:
    """Images that could not be read but may be readable now, and whether truncated ones were used."""

    unreadable: Sequence[Path]
    used_damaged: bool = False


def is_decoded_alike(path: Path, version: str) -> bool:
    """Whether an image file has the same pixels in ``version`` as now; reads only its header."""
    return compare_decoding(path, version) is not False  # a file that cannot be read is reported when it is decoded


def compare_decoding(path: Path, version: str) -> bool | None:
    """``is_decoded_alike``; None if the header cannot be read now, for a reason that may change."""
    if version == DECODING:
        return True
    if version not in VERSIONS:
        return False
    from xmodal_cli.data.images import ImageReader

    try:
        return not ImageReader().has_profile(path)
    except BadImage as error:
        return None if error.may_change else True


def must_decode_again(images: Sequence[Path], version: str, past: Past) -> bool:
    """Whether features of ``images`` that were made in ``version`` have to be computed again."""
    from xmodal_cli.data.image_settings import image_settings

    if past.used_damaged and image_settings().strict:
        return True
    if any(_is_readable(path) for path in past.unreadable):
        return True
    if version == DECODING:
        return False
    from concurrent.futures import ThreadPoolExecutor  # imports logging; a search imports this module

    with ThreadPoolExecutor(_THREADS) as pool:
        return not all(pool.map(lambda path: is_decoded_alike(path, version), images))


def has_damaged(defects: Sequence[tuple[str, str, str]]) -> bool:
    """Whether (path, reason, category) records have truncated images, which ``strict`` leaves out."""
    return any(category == Category.DAMAGED for _, _, category in defects)


def _is_readable(path: Path) -> bool:
    from xmodal_cli.data.images import ImageReader

    try:
        ImageReader().open(path, max_side=1)
    except BadImage:
        return False
    return True
