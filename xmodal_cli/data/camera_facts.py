"""How a photo was taken, from the EXIF data in the header of its file. Damaged values are None."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmodal_cli.data.images import ImageReader
from xmodal_cli.errors import BadImage

_EXIF, _GPS = 0x8769, 0x8825  # EXIF tags of the folders of settings and of the location
_MAKE, _MODEL, _LENS = 0x010F, 0x0110, 0xA434
_EXPOSURE, _APERTURE, _ISO, _FOCAL_LENGTH = 0x829A, 0x829D, 0x8827, 0x920A
_LATITUDE = 2  # GPS tag
_MAX_TEXT = 100  # characters


@dataclass(frozen=True)
class CameraFacts:
    """``exposure`` in seconds, ``aperture`` as the f-number, ``focal_length`` in millimeters.

    ``has_location`` is whether the file has coordinates; they are not read.
    """

    camera: str | None = None
    lens: str | None = None
    exposure: float | None = None
    aperture: float | None = None
    iso: int | None = None
    focal_length: float | None = None
    has_location: bool = False


def read_camera_facts(path: Path) -> CameraFacts:
    """Read the EXIF data of an image file; without any, or for a file that cannot be read, all facts are None."""
    try:
        exif = ImageReader().size_and_exif(path)[1]
        settings, location = exif.get_ifd(_EXIF), exif.get_ifd(_GPS)
    except BadImage:
        return CameraFacts()
    except Exception:  # on damaged EXIF data Pillow raises errors of any type
        return CameraFacts()
    iso = _number(settings, _ISO)
    return CameraFacts(
        _camera(_text(exif, _MAKE), _text(exif, _MODEL)),
        _text(settings, _LENS),
        _number(settings, _EXPOSURE),
        _number(settings, _APERTURE),
        None if iso is None else round(iso),
        _number(settings, _FOCAL_LENGTH),
        _LATITUDE in location,
    )


def _camera(make: str | None, model: str | None) -> str | None:
    """The model, after the maker unless it has its name: ``NIKON CORPORATION``, ``NIKON D90`` -> ``NIKON D90``."""
    if make is None or model is None:
        return model or make
    return model if model.casefold().startswith(make.split()[0].casefold()) else f"{make} {model}"


def _text(tags: Mapping[int, Any], tag: int) -> str | None:
    value = tags.get(tag)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return (str(value).replace("\0", " ").strip()[:_MAX_TEXT] or None) if isinstance(value, str) else None


def _number(tags: Mapping[int, Any], tag: int) -> float | None:
    """A positive number; the first one of several."""
    value = tags.get(tag)
    try:
        number = float(value[0] if isinstance(value, tuple) else value)  # type: ignore[arg-type]
    except (TypeError, ValueError, IndexError, ZeroDivisionError, OverflowError):
        return None
    return number if math.isfinite(number) and number > 0 else None
