"""Recognizes the format of an image file by its first bytes; Pillow gets exactly this format to open.

So no other plugin of Pillow sees the file: some of them start external programs. Imports only the standard library.
"""

from __future__ import annotations

import importlib
import struct
from pathlib import Path
from typing import Any

from xmodal_cli.data.image_names import RAW_SUFFIXES, SUFFIXES, suffix_of, unsupported_category
from xmodal_cli.errors import BadImage, Category
from xmodal_cli.file_identity import open_regular
from xmodal_cli.shell_commands import install_command

HEAD = 4096  # bytes that are enough to recognize every format
_EXPORT = {Category.RAW: "JPEG", Category.SVG: "PNG", Category.VECTOR: "PNG"}
PACKAGES = {
    Category.HEIC: ["pillow-heif"],
    Category.AVIF: ["--upgrade", "pillow"],
    Category.JXL: ["pillow-jxl-plugin"],
}
_REASONS = {
    Category.RAW: "camera RAW files are not supported",
    Category.HEIC: "HEIC photos need the package pillow-heif",
    Category.AVIF: "AVIF images need a Pillow with AVIF",
    Category.JXL: "JPEG XL images need the package pillow-jxl-plugin",
    Category.SVG: "SVG and other vector graphics are not supported",
    Category.VECTOR: "EPS, PDF, WMF and other vector graphics are not supported",
    Category.EMPTY: "the file is empty (0 bytes)",
    Category.NOT_AN_IMAGE: "it is not an image in a supported format",
}
_PLUGINS = {Category.HEIC: "pillow_heif", Category.JXL: "pillow_jxl"}

_MAGIC: tuple[tuple[int, bytes, str | Category], ...] = (  # offset, bytes, format of Pillow or category
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (8, b"CR\x02\0", Category.RAW),  # Canon CR2, before TIFF
    (0, b"II\x1a\0\0\0HEAPCCDR", Category.RAW),
    (0, b"IIRO", Category.RAW),
    (0, b"IIRS", Category.RAW),
    (0, b"MMOR", Category.RAW),
    (0, b"IIU\0", Category.RAW),
    (0, b"FUJIFILMCCD-RAW", Category.RAW),
    (0, b"FOVb", Category.RAW),
    (0, b"\0MRM", Category.RAW),
    (0, b"ARRI", Category.RAW),
    (4, b"ftypcrx ", Category.RAW),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"),
    (0, b"BM", "BMP"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG2000"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "JXL"),
    (0, b"\xff\x0a", "JXL"),
    (0, b"8BPS", "PSD"),
    (0, b"qoif", "QOI"),
    (0, b"\x01\xda", "SGI"),
    (0, b"\x59\xa6\x6a\x95", "SUN"),
    (0, b"DDS ", "DDS"),
    (0, b"\0\0\1\0", "ICO"),
    (0, b"icns", "ICNS"),
    *((0, b"P" + kind, "PPM") for kind in (b"1", b"2", b"3", b"4", b"5", b"6", b"f", b"F")),
    (0, b"%!PS", Category.VECTOR),
    (0, b"\xc5\xd0\xd3\xc6", Category.VECTOR),  # EPS with a preview
    (0, b"%PDF", Category.VECTOR),
    (0, b"\xd7\xcd\xc6\x9a", Category.VECTOR),  # WMF
    (40, b" EMF", Category.VECTOR),
)
_AVIF_BRANDS = frozenset((b"avif", b"avis", b"avio"))
_HEIC_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"))
_IMAGE_BRANDS = _AVIF_BRANDS | _HEIC_BRANDS | {b"mif1", b"mif2", b"mif3", b"msf1", b"miaf"}


def sniff(head: bytes, name: str) -> str | Category:
    """The format of a file by its first ``HEAD`` bytes: Pillow's name of it, or why it cannot be opened.

    The ``name`` counts only where bytes cannot decide: TGA and PCX have no magic number, and most camera RAW files are
    TIFF files with a thumbnail. Plugins that are not installed are not considered; see ``missing_plugin``.
    """
    if not head:
        return Category.EMPTY
    found = _sniff_container(head) or _sniff_magic(head)
    suffix = suffix_of(name)
    if found == "TIFF" and (suffix in RAW_SUFFIXES or _is_raw_tiff(head)):
        return Category.RAW
    without_magic = next((kind for kind in ("TGA", "PCX") if suffix in SUFFIXES[kind]), None)
    return found or without_magic or unsupported_category(name) or Category.NOT_AN_IMAGE


def missing_plugin(kind: str) -> Category | None:
    """The category of a format whose plugin is not installed, else None; an installed plugin is registered."""
    category = {"HEIF": Category.HEIC, "AVIF": Category.AVIF, "JXL": Category.JXL}.get(kind)
    if category is None or (category is Category.AVIF and _has_avif()):
        return None
    return None if category in _PLUGINS and _import_plugin(_PLUGINS[category]) else category


def format_hint(category: Category | None) -> str:
    """How to get images of an unsupported format read; empty for other categories."""
    if category in PACKAGES:
        return f"{install_command(*PACKAGES[category])}, or save it as JPEG"
    return f"export it as {_EXPORT[category]}" if category in _EXPORT else ""


def unsupported_error(path: Path | str, category: Category) -> BadImage:
    """The error for a file of a category that ``sniff`` or ``missing_plugin`` returned."""
    hint = format_hint(category) or "open it in an image viewer; if that fails too, replace or remove the file"
    may_change = category in (Category.HEIC, Category.AVIF, Category.JXL)
    return BadImage(f"{path} cannot be opened: {_REASONS[category]}", hint, category, may_change)


def check_content(path: str) -> BadImage | None:
    """The error of a file in a format that is not supported, by its first bytes: cheaper than to hash or decode it.

    None if it has to be decoded. Raises OSError, NotRegularFile.
    """
    with open_regular(path) as file:
        kind = sniff(file.read(HEAD), path)
    category = kind if isinstance(kind, Category) else missing_plugin(kind)
    return unsupported_error(path, category) if category in _EXPORT or category in PACKAGES else None


def _sniff_magic(head: bytes) -> str | Category | None:
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if _is_svg(head):
        return Category.SVG
    return next((kind for offset, magic, kind in _MAGIC if head.startswith(magic, offset)), None)


def _sniff_container(head: bytes) -> str | None:
    """HEIF, AVIF or None for an ISO media file, by the types of its items, else by its brands."""
    if head[4:8] != b"ftyp":
        return None
    size = min(max(struct.unpack(">I", head[:4])[0], 16), len(head))
    is_av1, is_hevc = b"av01" in head[size:], b"hvc1" in head[size:]
    brands = [head[8:12], *(head[start : start + 4] for start in range(16, size - 3, 4))]
    if not _IMAGE_BRANDS.intersection(brands):
        return None
    if is_av1 != is_hevc:
        return "AVIF" if is_av1 else "HEIF"
    first = next((brand for brand in brands if brand in _AVIF_BRANDS | _HEIC_BRANDS), b"")
    return "AVIF" if first in _AVIF_BRANDS else "HEIF"


def _is_raw_tiff(head: bytes) -> bool:
    """Whether a TIFF file is camera RAW: DNG, or a thumbnail that refers to other images."""
    order = "<" if head[:2] == b"II" else ">"
    if len(head) < 8 or head[2] == 43 or head[3] == 43:  # BigTIFF
        return False
    (start,) = struct.unpack_from(order + "I", head, 4)
    if start + 2 > len(head):
        return False
    (count,) = struct.unpack_from(order + "H", head, start)
    tags: dict[int, Any] = {}
    for entry in range(start + 2, min(start + 2 + 12 * count, len(head) - 11), 12):
        tag, kind, _, value = struct.unpack_from(order + "HHII", head, entry)
        tags[tag] = struct.unpack_from(order + "H", head, entry + 8)[0] if kind == 3 else value
    is_thumbnail = bool(tags.get(254, 0) & 1)
    return 0xC612 in tags or (is_thumbnail and 330 in tags) or tags.get(262) in (32803, 34892)


def _is_svg(head: bytes) -> bool:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return text.startswith(b"<svg") or (text.startswith((b"<?xml", b"<!doctype", b"<!--")) and b"<svg" in text)


def _import_plugin(module: str) -> bool:
    """Whether a plugin of Pillow can be imported, which registers it; a broken installation counts as missing."""
    try:
        plugin = importlib.import_module(module)
    except (ImportError, OSError):
        return False
    if hasattr(plugin, "register_heif_opener"):
        plugin.register_heif_opener()
    return True


def _has_avif() -> bool:
    from PIL import features

    return bool(features.check("avif"))
