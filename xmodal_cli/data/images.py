"""Decodes image files of any format as upright 8-bit RGB images.

``open_image`` is a ``types.ImageOpener``. A file that cannot be decoded raises BadData with the file and the reason,
so that callers can skip, count and list such files.
"""

from __future__ import annotations

import contextlib
import io
import threading
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from xmodal_cli.data import tar
from xmodal_cli.errors import BadData

HEIC_HINT = "pip install pillow-heif, or save them as JPEG"
MAX_PIXELS = 179_000_000  # a larger image could take gigabytes of memory from a file of a few kilobytes

_LARGE = 30_000_000  # pixels; 120 MB in Pillow's RGB
_large_image_lock = threading.Lock()
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_ORIENTATION = 0x0112  # EXIF tag
_TRANSPOSES = {  # orientation -> the operation that makes the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPS_SIDES = (5, 6, 7, 8)  # orientations that exchange width and height

# Pillow warns about large images and invalid metadata; here an image either opens or raises BadData
warnings.filterwarnings("ignore", module=r"PIL(\..*)?")


def can_open_heic() -> bool:
    """Whether pillow-heif is installed; if so, registers it with Pillow."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def open_image(path: Path, max_side: int | None = None) -> Image.Image:
    """The image at ``path``: upright, RGB, alpha on white, the first frame of an animation.

    ``path`` may point into a tar file. With ``max_side`` a JPEG is decoded at a reduced scale at which both sides are
    at least ``max_side`` pixels, several times faster for large photos; the caller resizes it. Other images of more
    than 30 megapixels are decoded one at a time and reduced, to bound memory. Raises BadData with file and reason.
    """
    try:
        with _open_bytes(path) as file, _open_lazily(path, file) as image:
            _check_size(image, path)
            if max_side is not None:
                image.draft(None, (max_side, max_side))
            with _large_image_lock if _is_large(image) else contextlib.nullcontext():
                image.load()
                return _apply_orientation(_reduce_large(_to_rgb(image), max_side), _orientation(image))
    except BadData:
        raise
    except Exception as error:  # on invalid bytes decoders raise errors of any type
        raise BadData(f"{path} cannot be opened: {_reason(path, error)}", _HINT) from error


def normalize_image(image: Image.Image, path: Path) -> Image.Image:
    """An open Pillow image as ``open_image`` returns it: upright, RGB, alpha on white, the first frame.

    ``path`` is its name in errors. Raises BadData if Pillow cannot decode it.
    """
    try:
        _check_size(image, path)
        image.load()
        return _apply_orientation(_to_rgb(image), _orientation(image))
    except BadData:
        raise
    except Exception as error:
        raise BadData(f"{path} cannot be decoded: {_reason(path, error)}", _HINT) from error


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) as displayed, from the header alone. Raises BadData with the file and the reason."""
    try:
        with _open_bytes(path) as file, _open_lazily(path, file) as image:
            _check_size(image, path)
            width, height = image.size
            is_swapped = _orientation(image) in _SWAPS_SIDES and image.format != "TIFF"  # Pillow swaps those of a TIFF
            return (height, width) if is_swapped else (width, height)
    except BadData:
        raise
    except Exception as error:
        raise BadData(f"{path} cannot be opened: {_reason(path, error)}", _HINT) from error


_HINT = "open it in an image viewer; if that fails too, replace or remove the file"


def _open_bytes(path: Path) -> BinaryIO:
    member = tar.split_member(path) if not path.is_file() else None
    return open(path, "rb") if member is None else io.BytesIO(tar.read_member(*member))


def _open_lazily(path: Path, file: BinaryIO) -> Image.Image:
    head = file.read(12)
    file.seek(0)
    if head[4:8] == b"ftyp" and head[8:] in _HEIC_BRANDS and not can_open_heic():
        raise BadData(f"{path} cannot be opened: HEIC photos need the package pillow-heif", HEIC_HINT)
    return Image.open(file)


def _check_size(image: Image.Image, path: Path) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadData(
            f"{path} has {width} x {height} pixels in its header, more than the {MAX_PIXELS / 1e6:.0f} million allowed",
            "if the size is correct, save a smaller copy; if not, the file is damaged or malicious",
        )


def _is_large(image: Image.Image) -> bool:
    return image.width * image.height > _LARGE


def _reduce_large(image: Image.Image, max_side: int | None) -> Image.Image:
    """A large image reduced by an integer factor, both sides at least twice ``max_side``; others unchanged."""
    factor = min(image.size) // (2 * max_side) if max_side and _is_large(image) else 1
    return image.reduce(factor) if factor > 1 else image


def _to_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as RGB, alpha on white."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(_to_uint8(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_uint8(values: np.ndarray) -> np.ndarray:
    """(height, width) integers of 16 or 32 bits, or floats -> uint8; the input range is guessed from the values."""
    pixels = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = min(float(pixels.min()), 0.0), float(pixels.max())
    if values.dtype.kind == "f":
        high = 1.0 if high <= 1.0 else 255.0 if high <= 255.0 else high
    elif values.dtype.itemsize == 2 or high <= 65535:
        high = 65535.0 if values.dtype.itemsize == 2 or high > 255 else 255.0
    return np.clip((pixels - low) * (255.0 / max(high - low, 1e-12)) + 0.5, 0, 255).astype(np.uint8)


def _apply_orientation(image: Image.Image, orientation: int) -> Image.Image:
    transpose = _TRANSPOSES.get(orientation)
    return image if transpose is None else image.transpose(transpose)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) if EXIF data is missing or damaged."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"it has more than the {MAX_PIXELS / 1e6:.0f} million pixels allowed"
    if isinstance(error, FileNotFoundError):
        return "the file does not exist"
    if path.is_file() and path.stat().st_size == 0:
        return "the file is empty (0 bytes)"
    if isinstance(error, UnidentifiedImageError):
        return "it is not an image in a supported format"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")
