"""Pictures from files: whatever a person's folder holds, as an upright 8-bit RGB image.

One function opens everything; it is a ``types.ImageOpener``. What cannot be opened is a BadData that names
the file and the reason, so that callers may skip, count and list it.
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
MAX_PIXELS = 179_000_000  # beyond this a few kilobytes could ask for gigabytes of memory

_LARGE = 30_000_000  # pixels: 120 MB as RGB
_one_large = threading.Lock()
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_ORIENTATION = 0x0112  # EXIF tag; its values and the turns that make the picture upright:
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LYING = (5, 6, 7, 8)  # these exchange width and height

# Pillow warns of large pictures and odd metadata; here a picture opens or is refused, nothing in between
warnings.filterwarnings("ignore", module=r"PIL(\..*)?")


def can_open_heic() -> bool:
    """Whether pillow-heif is installed; Pillow is told of it."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def open_image(path: Path, max_side: int | None = None) -> Image.Image:
    """The picture at ``path``, upright, RGB, alpha on white, the first frame of an animation.

    ``path`` may point into a tar file. With ``max_side`` a JPEG is decoded at a reduced scale whose sides are both
    still at least ``max_side`` pixels, which is several times faster for large photos; the caller resizes the rest.
    Other pictures of more than 30 megapixels are opened one at a time, and reduced, so that memory is bounded.
    Raises BadData that names the file and the reason.
    """
    try:
        with _open_bytes(path) as file, _identified(path, file) as image:
            _check_size(image, path)
            if max_side is not None:
                image.draft(None, (max_side, max_side))
            with _one_large if _is_large(image) else contextlib.nullcontext():
                image.load()
                return _upright(image, _smaller(_to_rgb(image), max_side))
    except BadData:
        raise
    except Exception as error:  # decoders meet hostile bytes and raise whatever they like
        raise BadData(f"{path} cannot be opened: {_reason(path, error)}", _HINT) from error


def normalize_image(image: Image.Image, path: Path) -> Image.Image:
    """An image in memory as ``open_image`` returns those in files: upright, RGB, alpha on white, the first frame.

    ``path`` names it in errors. Raises BadData, for example for a file that Pillow opened and cannot decode.
    """
    try:
        _check_size(image, path)
        image.load()
        return _upright(image, _to_rgb(image))
    except BadData:
        raise
    except Exception as error:
        raise BadData(f"{path} cannot be decoded: {_reason(path, error)}", _HINT) from error


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) as displayed, from the header alone. Raises BadData that names the file and the reason."""
    try:
        with _open_bytes(path) as file, _identified(path, file) as image:
            _check_size(image, path)
            width, height = image.size
            # Pillow has exchanged the sides of a TIFF already
            return (height, width) if _orientation(image) in _LYING and image.format != "TIFF" else (width, height)
    except BadData:
        raise
    except Exception as error:
        raise BadData(f"{path} cannot be opened: {_reason(path, error)}", _HINT) from error


_HINT = "open it in an image viewer; if it does not show there either, replace or remove it"


def _open_bytes(path: Path) -> BinaryIO:
    inside = tar.split_member(path) if not path.is_file() else None
    return open(path, "rb") if inside is None else io.BytesIO(tar.read_member(*inside))


def _identified(path: Path, file: BinaryIO) -> Image.Image:
    head = file.read(12)
    file.seek(0)
    if head[4:8] == b"ftyp" and head[8:] in _HEIC_BRANDS and not can_open_heic():
        raise BadData(f"{path} cannot be opened: HEIC photos need the package pillow-heif", HEIC_HINT)
    return Image.open(file)


def _check_size(image: Image.Image, path: Path) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadData(
            f"{path} claims to be {width} x {height} pixels, more than the {MAX_PIXELS / 1e6:.0f} million allowed",
            "if that is right, save a smaller copy; if not, the file is damaged or was made to do harm",
        )


def _is_large(image: Image.Image) -> bool:
    return image.width * image.height > _LARGE


def _smaller(picture: Image.Image, max_side: int | None) -> Image.Image:
    """A large picture by a whole factor smaller, both sides at least twice ``max_side``; others as they are."""
    factor = min(picture.size) // (2 * max_side) if max_side and _is_large(picture) else 1
    return picture.reduce(factor) if factor > 1 else picture


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode -> RGB."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(_to_bytes(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_bytes(values: np.ndarray) -> np.ndarray:
    """(height, width) deep integers or floats -> uint8, with the range they were meant in."""
    deep = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = min(float(deep.min()), 0.0), float(deep.max())
    if values.dtype.kind == "f":
        high = 1.0 if high <= 1.0 else 255.0 if high <= 255.0 else high
    elif values.dtype.itemsize == 2 or high <= 65535:
        high = 65535.0 if values.dtype.itemsize == 2 or high > 255 else 255.0
    return np.clip((deep - low) * (255.0 / max(high - low, 1e-12)) + 0.5, 0, 255).astype(np.uint8)


def _upright(image: Image.Image, picture: Image.Image) -> Image.Image:
    turn = _TURNS.get(_orientation(image))
    return picture if turn is None else picture.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """1..8; damaged EXIF data counts as upright."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"it claims more than the {MAX_PIXELS / 1e6:.0f} million pixels allowed"
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if path.is_file() and path.stat().st_size == 0:
        return "the file is empty (0 bytes)"
    if isinstance(error, UnidentifiedImageError):
        return "it is not a picture in any known format"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")
