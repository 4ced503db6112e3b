"""Decodes image files that end too early, or are damaged after their beginning, as far as they go.

Missing pixels are gray. An image of which more than ``MAX_MISSING`` is missing is not used.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
from PIL import Image

GRAY = 128  # of missing pixels; libjpeg's value too
MAX_MISSING = 0.4  # more than this fraction: the image is not used
_JPEG_END = b"\xff\xd9" * 35_000  # more than the longest segment, so that one that is cut ends too
_BY_ROWS = ("PNG", "GIF", "TIFF", "BMP", "PPM", "TGA", "SUN", "PCX", "QOI", "PSD")
_ROWS = 256  # compared at a time
Mark = float | tuple[int, ...]


def decode(file: BinaryIO, kind: str, reopen: Callable[[BinaryIO], Image.Image]) -> tuple[Image.Image, float] | None:
    """The part of a damaged image that can be decoded, and the fraction that is missing; None if there is none.

    ``kind`` is Pillow's name of the format, ``reopen`` opens a file in it and sets the scale. Raises MemoryError,
    OSError of the operating system.
    """
    try:
        if kind == "JPEG":
            return _decode_padded_jpeg(file, reopen)
        if kind == "WEBP":
            return _decode_padded_webp(file, reopen)
        if kind in _BY_ROWS:
            return _decode_rows(reopen(file))
    except MemoryError:
        raise
    except Exception as error:  # on invalid bytes decoders raise errors of any type
        if getattr(error, "errno", None) is not None:
            raise
    return None


def _decode_padded_jpeg(file: BinaryIO, reopen: Callable[[BinaryIO], Image.Image]) -> tuple[Image.Image, float]:
    file.seek(0)
    image = reopen(io.BytesIO(file.read() + _JPEG_END))
    image.load()
    missing = _uniform_rows(image, GRAY)
    if missing > MAX_MISSING:  # or the image is gray: without the end markers missing rows are black
        plain = reopen(file)
        with contextlib.suppress(OSError):
            plain.load()
        _stop_decoding(plain)
        missing = min(missing, _uniform_rows(plain, 0))
    return image, missing


def _decode_padded_webp(file: BinaryIO, reopen: Callable[[BinaryIO], Image.Image]) -> tuple[Image.Image, float] | None:
    """The header of a WebP file has its size: missing bytes are read as zeros."""
    file.seek(0)
    content = file.read()
    size = int.from_bytes(content[4:8], "little") + 8
    missing = (size - len(content)) / size
    if not 0 < missing <= MAX_MISSING:
        return None
    image = reopen(io.BytesIO(content + bytes(size - len(content))))
    image.load()
    return image, missing


def _decode_rows(image: Image.Image) -> tuple[Image.Image, float]:
    """An image whose decoder writes rows as it goes: those that it did not write keep the color of ``_fill``."""
    mark = _fill(image)
    with contextlib.suppress(Exception):  # the one that is the reason to be here
        image.load()
    return _take_decoded(image, mark)


def _fill(image: Image.Image) -> Mark:
    """Fill an image that is not yet loaded with a color that is unlikely in photos; returns this color."""
    if image.format == "GIF" and isinstance(clear := image.info.get("transparency"), int):
        return clear  # Pillow fills it so
    colors: dict[str, Mark] = {"1": 0, "L": 1, "P": 255, "I": 1, "F": 1e-30, "LA": (1, 254), "PA": (255, 254)}
    deep = image.mode.startswith("I;16")
    mark = colors.get(image.mode, 1 if deep else (1, 254, 3, 254)[: len(image.getbands())])
    image.im = Image.new(image.mode, image.size, mark).im
    return mark


def _take_decoded(image: Image.Image, mark: Mark) -> tuple[Image.Image, float]:
    """The pixels that were decoded before an error, and the fraction that is missing.

    Missing pixels, which still have the color ``mark``, become gray; in images of more than 8 bits they are black.
    """
    _stop_decoding(image)
    shown = image.convert("RGBA" if image.has_transparency_data else "RGB") if image.mode in ("P", "PA", "1") else image
    is_deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
    gray = tuple(255 if band == "A" else GRAY for band in shown.getbands())
    missing = 0
    for top in range(0, image.height, _ROWS):
        box = (0, top, image.width, min(top + _ROWS, image.height))
        band = np.asarray(image.crop(box))
        is_missing = (band == np.asarray(mark, band.dtype)).reshape(*band.shape[:2], -1).all(-1)
        if image.mode == "1":  # single pixels have no unlikely color
            is_missing &= is_missing.all(1, keepdims=True)
        missing += int(is_missing.sum())
        if is_missing.any() and not is_deep:
            shown.paste(gray if len(gray) > 1 else gray[0], box, Image.fromarray(is_missing))
    return shown, missing / (image.width * image.height)


def _uniform_rows(image: Image.Image, value: int) -> float:
    """The fraction of rows at the bottom that have no value but ``value``."""
    rows = image.height
    while rows > 0:
        top = max(0, rows - _ROWS)
        band = np.asarray(image.crop((0, top, image.width, rows))).reshape(rows - top, -1)
        different = np.flatnonzero((np.abs(band.astype(np.int16) - value) > 1).any(1))
        if len(different):
            return 1.0 - (top + int(different[-1]) + 1) / image.height
        rows = top
    return 1.0


def _stop_decoding(image: Image.Image) -> None:
    """Make the pixels of an image those that were decoded before an error."""
    vars(image)["tile"] = []
    image.load()
