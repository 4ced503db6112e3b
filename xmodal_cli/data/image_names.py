"""Which files are pictures, by their names alone. Loads no library: a search asks it too."""

from __future__ import annotations

import os

HEIC_SUFFIXES = frozenset((".heic", ".heif", ".hif"))
IMAGE_SUFFIXES = HEIC_SUFFIXES | {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".avif")
}


def is_image_name(name: str) -> bool:
    """Whether a file's name is that of a picture; hidden files (``._a.jpg``) are not."""
    file = os.path.basename(name)  # noqa: PTH119 - a Path takes ten times as long, and folders hold many files
    return not file.startswith(".") and os.path.splitext(file)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122


def is_heic_name(name: str) -> bool:
    """Whether a file's name is that of a HEIC photo, which Pillow cannot open by itself."""
    return os.path.splitext(name)[1].lower() in HEIC_SUFFIXES  # noqa: PTH122 - as above
