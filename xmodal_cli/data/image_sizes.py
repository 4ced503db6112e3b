"""Limits on the size of an image before it is decoded, and the reduced scales at which JPEGs are decoded."""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image

from xmodal_cli.errors import BadImage, Category

_SCALES = (2, 4, 8)  # of libjpeg
_MAX_SCALED = 16  # a JPEG that is decoded at a reduced scale may have this many times the pixels allowed
_COEFFICIENT = 2  # bytes; libjpeg keeps a progressive JPEG of full size in memory
_PIXEL = 4  # bytes in Pillow


def set_scale(image: Image.Image, max_side: int | None, max_pixels: int) -> None:
    """Decode a JPEG at the smallest scale at which both sides are at least ``max_side``, and fewer pixels than allowed.

    Other images, and JPEGs without need, keep their scale.
    """
    width, height = image.size
    needed = max_side if max_side is not None else max(width, height)
    scale = next((s for s in (1, *_SCALES) if width * height / s**2 <= max_pixels), _SCALES[-1])
    side = max(1, min(needed, min(width, height) // scale))
    if side < min(width, height):
        image.draft(None, (side, side))


def check_size(path: Path, image: Image.Image, full_size: tuple[int, int], max_pixels: int) -> None:
    """Raise BadImage if decoding an image would need more memory than ``max_pixels`` allow.

    ``image`` has its scale already, ``full_size`` is (width, height) in its header.
    """
    width, height = full_size
    needed = image.width * image.height
    if _is_jpeg(image):
        needed = max(needed, width * height // _MAX_SCALED, _coefficients(image, width * height) // _PIXEL)
    if needed > max_pixels:
        raise BadImage(
            f"{path} has {width} x {height} pixels in its header, more than the {max_pixels / 1e6:.0f} million allowed",
            f"if the size is correct, set the environment variable XMODAL_MAX_MEGAPIXELS={math.ceil(needed / 1e6)}; "
            "if not, the file is damaged or malicious",
            Category.TOO_LARGE,
            may_change=True,
        )


def _is_jpeg(image: Image.Image) -> bool:
    return image.format in ("JPEG", "MPO")


def _coefficients(image: Image.Image, pixels: int) -> int:
    """The bytes that libjpeg needs for the coefficients of a progressive JPEG; 0 for others."""
    layers = getattr(image, "layer", ())
    if not image.info.get("progressive") or not layers:
        return 0
    sampling = [(layer[1], layer[2]) for layer in layers]
    most = max(h for h, _ in sampling) * max(v for _, v in sampling)
    return int(pixels * _COEFFICIENT * sum(h * v for h, v in sampling) / max(most, 1))
