"""Converts images with an embedded ICC profile to sRGB; ``data/decoding.py`` has the version of this."""

from __future__ import annotations

import functools
import io
from typing import Any

import numpy as np
from PIL import Image

_TOLERANCE = 2  # of 255: a profile that changes no color by more is sRGB
_INPUT_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "LAB": "LAB"}  # color space of a profile -> mode of Pillow


class BadProfile(Exception):
    """A profile that cannot be used; the message is the reason."""


def convert_to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """An image of mode L, RGB, CMYK or LAB as RGB in the colors of sRGB.

    Without a profile, RGB and L are taken as sRGB. Raises BadProfile.
    """
    transform = None if profile is None else profile_transform(profile, image.mode)
    if transform is not None:
        from PIL import ImageCms

        source = image if image.mode == transform.input_mode else image.convert(transform.input_mode)
        converted = ImageCms.applyTransform(source, transform)
        assert converted is not None  # it is None only with inPlace
        return converted
    if image.mode == "LAB":
        return convert_to_srgb(image, _lab_profile())
    return image if image.mode == "RGB" else image.convert("RGB")


def changes_colors(profile: bytes, mode: str) -> bool:
    """Whether images of ``mode`` with this profile have other colors in sRGB."""
    try:
        return profile_transform(profile, "L" if mode in ("LA", "I;16") else mode) is not None
    except BadProfile:
        return False


@functools.lru_cache(maxsize=64)
def profile_transform(profile: bytes, mode: str) -> Any | None:
    """The transform of an ICC profile for images of ``mode`` to sRGB; None if it changes nothing. Raises BadProfile."""
    try:
        from PIL import ImageCms
    except ImportError as error:
        raise BadProfile("Pillow was built without LittleCMS") from error
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip().upper()
        input_mode = _INPUT_MODES.get(space, "")
        if input_mode != mode and (input_mode, mode) != ("RGB", "L"):
            raise BadProfile(f"it is a profile for {space or 'unknown'} images, and the image is {mode}")
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), input_mode, "RGB")
        return None if _changes_nothing(transform, input_mode) else transform
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        raise BadProfile("it is damaged") from error


def _changes_nothing(transform: Any, mode: str) -> bool:
    """Whether a transform is the identity on a grid of colors."""
    from PIL import ImageCms

    if mode not in ("RGB", "L"):
        return False
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    colors = np.stack(np.meshgrid(*[levels] * 3, indexing="ij"), -1).reshape(len(levels), -1, 3)
    image = Image.fromarray(colors if mode == "RGB" else np.arange(256, dtype=np.uint8)[None])
    converted = np.asarray(ImageCms.applyTransform(image, transform)).astype(int)
    return bool(np.abs(converted - np.asarray(image.convert("RGB"))).max() <= _TOLERANCE)


@functools.lru_cache(maxsize=1)
def _lab_profile() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
