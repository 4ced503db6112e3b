"""Decodes image files of the formats in ``image_names.SUFFIXES`` as upright 8-bit RGB images in the colors of sRGB.

``open_image`` is a ``types.ImageOpener``. A file that cannot be decoded raises BadImage with the file and the reason,
so that callers can skip, count and list such files. An ``ImageReader`` also collects the defects of files that can.
"""

from __future__ import annotations

import contextlib
import io
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from xmodal_cli.data import tar, truncated_images
from xmodal_cli.data.color_profiles import BadProfile, changes_colors
from xmodal_cli.data.image_content import HEAD, missing_plugin, sniff, unsupported_error
from xmodal_cli.data.image_pixels import to_rgb
from xmodal_cli.data.image_settings import ImageSettings, image_settings
from xmodal_cli.data.image_sizes import check_size, set_scale
from xmodal_cli.errors import BadImage, Category, XmodalError
from xmodal_cli.file_identity import NotRegularFile, open_regular
from xmodal_cli.types import Defect

Source = Callable[[Path], BinaryIO]

_LARGE = 30_000_000  # pixels; 120 MB in Pillow's RGB
_large_image_lock = threading.Lock()
_HINT = "open it in an image viewer; if that fails too, replace or remove the file"
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

# Pillow warns about large images and invalid metadata; here an image either opens or raises BadImage
warnings.filterwarnings("ignore", module=r"PIL(\..*)?")


class ImageReader:
    """Opens image files with the user's settings. ``defects`` are those of images that were decoded nevertheless.

    Its methods can be called from several threads.
    """

    def __init__(self, strict: bool = False, settings: ImageSettings | None = None) -> None:
        """``strict`` refuses truncated images. Raises BadData, ConfigError, UnknownName for invalid settings."""
        self._settings = settings or image_settings()
        self._strict = strict or self._settings.strict
        self.defects: list[Defect] = []

    def open(self, path: Path, max_side: int | None = None, source: Source | None = None) -> Image.Image:
        """The image at ``path``: upright, RGB, alpha on white, the first frame of an animation.

        ``path`` may point into a tar file; ``source`` opens its bytes, by default ``open_bytes``. With ``max_side`` a
        JPEG is decoded at a reduced scale at which both sides are at least ``max_side`` pixels, several times faster
        for large photos; the caller resizes it. Other images of more than 30 megapixels are decoded one at a time and
        reduced, to bound memory. A truncated image is decoded as far as it goes. Raises BadImage with file and reason.
        """
        with _errors_of(path), (source or open_bytes)(path) as file:
            kind = _identify(path, file)
            try:
                image = self._open_at_scale(path, file, kind, max_side)
            except (OSError, SyntaxError) as error:
                return self._upright(self._decode_truncated(path, file, kind, max_side, error), path, max_side)
            with image, _large_image_lock if _is_large(image) else contextlib.nullcontext():
                try:
                    image.load()
                except Exception as error:  # on invalid bytes decoders raise errors of any type
                    image = self._decode_truncated(path, file, kind, max_side, error)
                return self._upright(image, path, max_side)

    def size(self, path: Path) -> tuple[int, int]:
        """(width, height) as displayed, from the header alone. Raises BadImage with file and reason."""
        return self.size_and_exif(path)[0]

    def size_and_exif(self, path: Path) -> tuple[tuple[int, int], Image.Exif]:
        """(width, height) as displayed, and the EXIF data, from the header. Raises BadImage with file and reason."""
        with _errors_of(path), open_bytes(path) as file, _open_lazily(file, _identify(path, file)) as image:
            width, height = image.size
            set_scale(image, None, self._settings.max_pixels)
            check_size(path, image, (width, height), self._settings.max_pixels)
            # Pillow swaps the sides of a TIFF itself
            is_swapped = _orientation(image) in _SWAPS_SIDES and image.format != "TIFF"
            return (height, width) if is_swapped else (width, height), _exif_of_header(image)

    def has_profile(self, path: Path) -> bool:
        """Whether the image has a color profile that changes its colors, from the header alone. Raises BadImage."""
        with _errors_of(path), open_bytes(path) as file, _open_lazily(file, _identify(path, file)) as image:
            profile = image.info.get("icc_profile")
            mode = "RGB" if image.mode in ("RGBA", "P", "PA", "RGBX") else image.mode
            return profile is not None and changes_colors(profile, mode)

    def normalize(self, image: Image.Image, path: Path) -> Image.Image:
        """An open Pillow image as ``open`` returns it; ``path`` is its name in errors. Raises BadImage."""
        with _errors_of(path):
            check_size(path, image, image.size, self._settings.max_pixels)
            image.load()
            return self._upright(image, path, None)

    def _open_at_scale(self, path: Path, file: BinaryIO, kind: str, max_side: int | None) -> Image.Image:
        image = _open_lazily(file, kind)
        size = image.size
        set_scale(image, max_side, self._settings.max_pixels)
        check_size(path, image, size, self._settings.max_pixels)
        return image

    def _decode_truncated(
        self, path: Path, file: BinaryIO, kind: str, max_side: int | None, error: Exception
    ) -> Image.Image:
        """The part of an image that can be decoded. Raises ``error`` or BadImage if too little can."""
        if isinstance(error, MemoryError | XmodalError) or getattr(error, "errno", None) is not None:
            raise error

        def reopen(content: BinaryIO) -> Image.Image:
            return self._open_at_scale(path, content, kind, max_side)

        salvaged = truncated_images.decode(file, kind, reopen)
        if salvaged is None:
            raise error
        image, missing = salvaged
        if missing > truncated_images.MAX_MISSING:
            raise BadImage(
                f"{path} cannot be opened: the file is truncated, {missing:.0%} of the image is missing",
                _HINT,
                Category.DAMAGED,
            ) from error
        if self._strict:
            raise BadImage(
                f"{path} is truncated: {_percent(missing)} of the image is missing",
                "without --strict it is decoded as far as possible",
                Category.DAMAGED,
                may_change=True,
            ) from error
        self._add_defect(path, f"the file is truncated: {_percent(missing)} of the image is missing", Category.DAMAGED)
        return image

    def _upright(self, image: Image.Image, path: Path, max_side: int | None) -> Image.Image:
        factor = min(image.size) // (2 * max_side) if max_side and _is_large(image) else 1
        profile = image.info.get("icc_profile") or None
        try:
            rgb = to_rgb(image, max(factor, 1), profile)
        except BadProfile as error:
            self._add_defect(path, f"its color profile is ignored: {error}", Category.PROFILE)
            rgb = to_rgb(image, max(factor, 1))
        upright = _apply_orientation(rgb, _orientation(image))
        if upright is not image:
            upright.info.pop("icc_profile", None)  # the colors are those of sRGB now
        return upright

    def _add_defect(self, path: Path, reason: str, category: Category) -> None:
        self.defects.append(Defect(path, reason, category))


def _exif_of_header(image: Image.Image) -> Image.Exif:
    """The EXIF data before the pixels; for a PNG, ``getexif`` would decode the image to find what is after them."""
    if image.format != "PNG":
        return image.getexif()
    exif = Image.Exif()
    exif.load(image.info.get("exif", b""))
    return exif


def open_image(path: Path, max_side: int | None = None) -> Image.Image:
    """``ImageReader.open`` with the user's settings. Raises BadImage, and the errors of ``image_settings``."""
    return ImageReader().open(path, max_side)


def normalize_image(image: Image.Image, path: Path) -> Image.Image:
    """``ImageReader.normalize`` with the user's settings. Raises BadImage, and the errors of ``image_settings``."""
    return ImageReader().normalize(image, path)


def image_size(path: Path) -> tuple[int, int]:
    """``ImageReader.size`` with the user's settings. Raises BadImage, and the errors of ``image_settings``."""
    return ImageReader().size(path)


def open_bytes(path: Path) -> BinaryIO:
    """The bytes of a file, which may be in a tar file. Raises OSError, XmodalError."""
    member = tar.split_member(path) if not path.is_file() else None
    return open_regular(path) if member is None else io.BytesIO(tar.read_member(*member))


def _identify(path: Path, file: BinaryIO) -> str:
    """Pillow's name of the format of an open file. Raises BadImage for other files."""
    kind = sniff(file.read(HEAD), path.name)
    category = kind if isinstance(kind, Category) else missing_plugin(kind)
    if category is not None:
        raise unsupported_error(path, category)
    return kind


def _open_lazily(file: BinaryIO, kind: str) -> Image.Image:
    """Read the header of a file in the format ``kind``; no other plugin of Pillow sees it."""
    if kind not in Image.OPEN:
        Image.init()
    file.seek(0)
    image: Image.Image = Image.OPEN[kind][0](file, "")
    return image


def _is_large(image: Image.Image) -> bool:
    return image.width * image.height > _LARGE


def _apply_orientation(image: Image.Image, orientation: int) -> Image.Image:
    transpose = _TRANSPOSES.get(orientation)
    return image if transpose is None else image.transpose(transpose)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) if EXIF data is missing or damaged."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def _percent(fraction: float) -> str:
    return "less than 1%" if fraction < 0.01 else f"{fraction:.0%}"


@contextlib.contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """Convert every exception of opening or decoding ``path`` to BadImage."""
    try:
        yield
    except XmodalError:
        raise
    except Exception as error:  # on invalid bytes decoders raise errors of any type
        raise _bad_image(path, error) from error


def _bad_image(path: Path, error: Exception) -> BadImage:
    reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")
    category, may_change, hint = Category.DAMAGED, False, _HINT
    if isinstance(error, FileNotFoundError):
        reason, category, may_change = "the file does not exist", Category.MISSING, True
    elif isinstance(error, NotRegularFile):
        category, hint = Category.SPECIAL, "give a regular file"
    elif isinstance(error, MemoryError):
        reason, category, may_change = "there is not enough memory", Category.MEMORY, True
    elif isinstance(error, Image.DecompressionBombError):
        category, may_change = Category.TOO_LARGE, True
    elif isinstance(error, SyntaxError):
        reason = f"the file is damaged ({reason})"
    elif isinstance(error, OSError) and error.errno is not None:
        category, may_change, hint = Category.UNREADABLE, True, "check its permissions and the disk"
    return BadImage(f"{path} cannot be opened: {reason}", hint, category, may_change)
