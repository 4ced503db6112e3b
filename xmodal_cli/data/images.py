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
from xmodal_cli.data.image_content import HEAD, missing_plugin, sniff, unsupported_error
from xmodal_cli.errors import BadData, BadImage, Category
from xmodal_cli.file_identity import NotRegularFile, open_regular

MAX_PIXELS = 179_000_000  # a larger image could take gigabytes of memory from a file of a few kilobytes

_LARGE = 30_000_000  # pixels; 120 MB in Pillow's RGB
_large_image_lock = threading.Lock()
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


def open_image(path: Path, max_side: int | None = None) -> Image.Image:
    """The image at ``path``: upright, RGB, alpha on white, the first frame of an animation.

    ``path`` may point into a tar file. With ``max_side`` a JPEG is decoded at a reduced scale at which both sides are
    at least ``max_side`` pixels, several times faster for large photos; the caller resizes it. Other images of more
    than 30 megapixels are decoded one at a time and reduced, to bound memory. Raises BadImage with file and reason.
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
        raise _bad_image(path, error) from error


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
        raise _bad_image(path, error) from error


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
        raise _bad_image(path, error) from error


_HINT = "open it in an image viewer; if that fails too, replace or remove the file"


def _open_bytes(path: Path) -> BinaryIO:
    member = tar.split_member(path) if not path.is_file() else None
    return open_regular(path) if member is None else io.BytesIO(tar.read_member(*member))


def _open_lazily(path: Path, file: BinaryIO) -> Image.Image:
    head = file.read(HEAD)
    file.seek(0)
    kind = sniff(head, path.name)
    category = kind if isinstance(kind, Category) else missing_plugin(kind)
    if category is not None:
        raise unsupported_error(path, category)
    return Image.open(file, formats=(kind,))


def _check_size(image: Image.Image, path: Path) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadImage(
            f"{path} has {width} x {height} pixels in its header, more than the {MAX_PIXELS / 1e6:.0f} million allowed",
            "if the size is correct, save a smaller copy; if not, the file is damaged or malicious",
            Category.TOO_LARGE,
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


def _bad_image(path: Path, error: Exception) -> BadImage:
    """The error for ``path`` of any exception that was raised when it was opened or decoded."""
    reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")
    category, may_change, hint = Category.DAMAGED, False, _HINT
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        reason, category = f"it has more than the {MAX_PIXELS / 1e6:.0f} million pixels allowed", Category.TOO_LARGE
    elif isinstance(error, FileNotFoundError):
        reason, category, may_change = "the file does not exist", Category.MISSING, True
    elif isinstance(error, NotRegularFile):
        category, hint = Category.SPECIAL, "give a regular file"
    elif isinstance(error, MemoryError):
        reason, category, may_change = "there is not enough memory", Category.MEMORY, True
    elif isinstance(error, UnidentifiedImageError):
        reason = "its header is damaged"
    elif isinstance(error, OSError) and error.errno is not None:
        category, may_change, hint = Category.UNREADABLE, True, "check its permissions and the disk"
    return BadImage(f"{path} cannot be opened: {reason}", hint, category, may_change)
