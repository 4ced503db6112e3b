"""Recognizes image files by their names. Imports only the standard library: the torch-free search uses it."""

from __future__ import annotations

import os

HEIC_SUFFIXES = frozenset((".heic", ".heif", ".hif"))
IMAGE_SUFFIXES = HEIC_SUFFIXES | {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".avif")
}


def is_image_name(name: str) -> bool:
    """Whether a file name has an image suffix and is not hidden, as ``._a.jpg`` is."""
    file = os.path.basename(name)  # noqa: PTH119 - a Path takes ten times as long
    return not file.startswith(".") and os.path.splitext(file)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122


def is_heic_name(name: str) -> bool:
    """Whether a file name has a HEIC suffix; Pillow needs pillow-heif for these."""
    return os.path.splitext(name)[1].lower() in HEIC_SUFFIXES  # noqa: PTH122 - as above
