"""Images inside an HTML page: JPEG thumbnails as data URIs, without metadata such as EXIF."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from xmodal_cli.data.images import open_image
from xmodal_cli.errors import BadData

QUALITY = 82  # of JPEG


@dataclass(frozen=True)
class InlineImage:
    """A thumbnail and its alternative text; ``source`` is empty if the image is missing or cannot be read."""

    name: str
    source: str


def inline_image(path: Path | None, name: str, side: int) -> InlineImage:
    """The thumbnail of an image file, with at most ``side`` pixels on its longer side."""
    try:
        source = jpeg_data_uri(open_image(path, side), side) if path is not None else ""
    except BadData:
        source = ""
    return InlineImage(name, source)


def jpeg_data_uri(image: Image.Image, side: int) -> str:
    """An image as a ``data:`` URI; an image with more than ``side`` pixels on its longer side is reduced."""
    content = io.BytesIO()
    small = ImageOps.contain(image, (side, side)) if max(image.size) > side else image
    small.save(content, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode('ascii')}"
