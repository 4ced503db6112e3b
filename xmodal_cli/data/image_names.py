"""Recognizes image files by their names. Imports only the standard library: the torch-free search uses it.

``SUFFIXES`` are the raster formats that are read, with Pillow's names. Their content decides how a file is opened; its
name decides only whether it is listed. Other kinds of images are listed too, so that they can be counted.
"""

from __future__ import annotations

import os

from xmodal_cli.errors import Category

SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "HEIF": (".heic", ".heics", ".heif", ".heifs", ".hif"),  # with the package pillow-heif
    "AVIF": (".avif", ".avifs"),
    "JXL": (".jxl",),  # with the package pillow-jxl-plugin
    "JPEG2000": (".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "TGA": (".tga", ".icb", ".vda", ".vst"),
    "PCX": (".pcx",),
    "PSD": (".psd",),
    "QOI": (".qoi",),
    "SGI": (".sgi", ".rgb", ".rgba", ".bw"),
    "SUN": (".ras",),
    "DDS": (".dds",),
    "ICO": (".ico",),
    "ICNS": (".icns",),
}
IMAGE_SUFFIXES = frozenset(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
_RAW = (
    "3fr ari arw bay cap cr2 cr3 crw dcr dng erf fff gpr iiq k25 kdc mef mos mrw nef nrw orf pef ptx raf raw rw2 rwl "
    "rwz sr2 srf srw x3f"
)
RAW_SUFFIXES = frozenset("." + suffix for suffix in _RAW.split())
_OTHER_IMAGES = {
    **dict.fromkeys(RAW_SUFFIXES, Category.RAW),
    **dict.fromkeys((".svg", ".svgz"), Category.SVG),
    **dict.fromkeys((".eps", ".epsf", ".ai", ".wmf", ".emf"), Category.VECTOR),
}

_COMMON = frozenset((".jpg", ".JPG", ".png", ".PNG"))
_OTHER_FILES = frozenset(  # images of other programs, videos, documents
    [".xcf", ".pdf", ".exr", ".hdr", ".mp4", ".mov", ".avi", ".mkv", ".webm", ".txt", ".json", ".csv", ".zip"]
)


def suffix_of(name: str) -> str:
    """The lower-case suffix of a file name, with its dot."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path takes ten times as long


def is_image_name(name: str) -> bool:
    """Whether a file name has the suffix of a raster format and is not hidden, as ``._a.jpg`` is."""
    return not _is_hidden(name) and suffix_of(name) in IMAGE_SUFFIXES


def is_listed_name(name: str) -> bool:
    """``is_image_name``, or a suffix of camera RAW or vector graphics; such files are counted but not opened."""
    if name[-4:] in _COMMON and name[0] != "." and "/" not in name and "\\" not in name:  # for speed
        return True
    return not _is_hidden(name) and ((suffix := suffix_of(name)) in IMAGE_SUFFIXES or suffix in _OTHER_IMAGES)


def has_file_suffix(text: str) -> bool:
    """Whether text ends like the name of a file that people search with: an image of any kind, a video, a document.

    ``.ai`` is not such a suffix: words end so.
    """
    suffix = suffix_of(text)
    return suffix in IMAGE_SUFFIXES or suffix in _OTHER_FILES or (suffix in _OTHER_IMAGES and suffix != ".ai")


def unsupported_category(name: str) -> Category | None:
    """The category of a file name with a suffix of camera RAW or vector graphics, else None."""
    return _OTHER_IMAGES.get(suffix_of(name))


def _is_hidden(name: str) -> bool:
    return os.path.basename(name).startswith(".")  # noqa: PTH119 - as above
