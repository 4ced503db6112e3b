"""Rows of thumbnails for the preview of search results in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps

from xmodal_cli.data.images import open_image
from xmodal_cli.errors import BadData

GRAY = (187, 187, 187, 255)


def draw_strip(photos: Sequence[Path], size: tuple[int, int], gap: int) -> Image.Image:
    """The photos side by side, each cropped to ``size``, with transparent gaps; gray for an unreadable photo: RGBA."""
    width, height = size
    strip = Image.new("RGBA", (len(photos) * (width + gap) - gap, height), (0, 0, 0, 0))
    for number, photo in enumerate(photos):
        strip.paste(_tile(photo, size), (number * (width + gap), 0))
    return strip


def _tile(photo: Path, size: tuple[int, int]) -> Image.Image:
    try:
        return ImageOps.fit(open_image(photo, max(size)), size).convert("RGBA")
    except BadData:
        return Image.new("RGBA", size, GRAY)
