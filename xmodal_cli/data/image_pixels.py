"""Pixels of any mode as 8-bit RGB, reduced if the image is large; memory is that of the decoded image and a few rows.

Alpha is composited on white, embedded color profiles are converted to sRGB.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

from xmodal_cli.data.color_profiles import convert_to_srgb

_BAND = 2_000_000  # pixels converted at a time
_DEEP_MODES = ("I", "F")  # and I;16 in all byte orders: more than 8 bits per pixel


def to_rgb(image: Image.Image, factor: int = 1, profile: bytes | None = None) -> Image.Image:
    """A decoded image as RGB, both sides divided by ``factor`` and rounded up. Raises BadProfile."""
    width, height = image.size
    if width * height <= _BAND or (factor == 1 and not _is_deep(image)):
        rgb = _convert(image, _value_range(image), profile)
        return rgb.reduce(factor) if factor > 1 else rgb
    result = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    values = _value_range(image)
    for top, band in _bands(image, factor):
        rgb = _convert(band, values, profile)
        result.paste(rgb.reduce(factor) if factor > 1 else rgb, (0, top // factor))
    return result


def _bands(image: Image.Image, factor: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """(first row, rows) of strips of about ``_BAND`` pixels, whose heights are multiples of ``factor``."""
    rows = max(1, _BAND // (image.width * factor)) * factor
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _convert(image: Image.Image, values: tuple[float, float], profile: bytes | None) -> Image.Image:
    if _is_deep(image):
        return convert_to_srgb(Image.fromarray(_to_uint8(np.asarray(image), values)), profile)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        if profile is not None:
            is_gray = image.mode in ("LA", "La", "L")
            color = convert_to_srgb(image.convert("L") if is_gray else layer.convert("RGB"), profile)
            color.putalpha(layer.getchannel("A"))
            layer = color
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    if image.mode == "1":
        image = image.convert("L")
    return convert_to_srgb(image if image.mode in ("RGB", "L", "CMYK", "LAB") else image.convert("RGB"), profile)


def _is_deep(image: Image.Image) -> bool:
    return image.mode in _DEEP_MODES or image.mode.startswith("I;16")


def _value_range(image: Image.Image) -> tuple[float, float]:
    """The values that become black and white in an image of more than 8 bits; guessed from the values it has."""
    if not _is_deep(image):
        return 0.0, 255.0
    if image.mode.startswith("I;16"):
        return 0.0, 65535.0
    low, high = 0.0, float("-inf")
    for _, band in _bands(image):
        pixels = _finite(np.asarray(band))
        low, high = min(low, float(pixels.min())), max(high, float(pixels.max()))
    if image.mode == "F":
        high = 1.0 if high <= 1.0 else 255.0 if high <= 255.0 else high
    elif high <= 65535:
        high = 65535.0 if high > 255 else 255.0
    return low, high


def _to_uint8(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """(height, width) integers of 16 or 32 bits, or floats -> uint8, with ``limits`` as black and white."""
    low, high = limits
    scaled = (_finite(values) - low) * (255.0 / max(high - low, 1e-12)) + 0.5
    return np.clip(scaled, 0, 255).astype(np.uint8)


def _finite(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
