"""A contact sheet of search results: a row per query, its photos from best to worst, correct ones framed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps
from PIL.PngImagePlugin import PngInfo

from xmodal_cli.data.images import open_image
from xmodal_cli.errors import BadData
from xmodal_cli.paths import atomic_path

THUMB, GAP, LINE = 144, 10, 26  # pixels
PAPER, INK, GREY, RIGHT, WRONG = "#ffffff", "#222222", "#bbbbbb", "#1a9c4b", "#c6352b"
SOFTWARE = "xmodal"  # in the metadata of the PNG
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Row:
    """A query and its photos; ``right`` are the correct ones, empty if they are not known.

    A photo of which only the name is known is given as a string. ``wrong_framed`` frames the others too, in red.
    ``labels``, if any, has the text below each photo.
    """

    query: str
    photos: Sequence[Path | str]
    right: frozenset[Path | str] = frozenset()
    wrong_framed: bool = False
    labels: Sequence[str] = ()


def draw_contact_sheet(rows: Sequence[Row], out: Path, max_columns: int | None = None) -> Path:
    """Write the PNG ``out`` and return it; a photo that cannot be read is a grey square. Raises StorageError.

    With ``max_columns`` the photos of a row are wrapped.
    """
    longest = max((len(row.photos) for row in rows), default=1)
    columns = max(1, min(longest, max_columns or longest))
    sheet = Image.new("RGB", (GAP + columns * (THUMB + GAP), GAP + sum(_height(row, columns) for row in rows)), PAPER)
    top = GAP
    for row in rows:
        _draw_row(sheet, row, top, columns)
        top += _height(row, columns)
    with atomic_path(out) as draft:
        sheet.save(draft, format="PNG", pnginfo=_software())
    return out


def is_contact_sheet(file: Path) -> bool:
    """Whether ``file`` is an image that ``draw_contact_sheet`` wrote."""
    try:
        with Image.open(file, formats=["PNG"]) as image:
            return image.info.get("Software") == SOFTWARE
    except (OSError, ValueError, SyntaxError):
        return False


def _software() -> PngInfo:
    info = PngInfo()
    info.add_text("Software", SOFTWARE)
    return info


def _height(row: Row, columns: int) -> int:
    return LINE + max(1, math.ceil(len(row.photos) / columns)) * (_cell_height(row) + GAP)


def _cell_height(row: Row) -> int:
    return THUMB + (LINE if row.labels else 0)


def _draw_row(sheet: Image.Image, row: Row, top: int, columns: int) -> None:
    canvas, font = ImageDraw.Draw(sheet), plain_font(16)
    canvas.text((GAP, top), fitting(row.query, font, sheet.width - 2 * GAP), fill=INK, font=font)
    for number, photo in enumerate(row.photos):
        line, column = divmod(number, columns)
        left, upper = GAP + column * (THUMB + GAP), top + LINE + line * (_cell_height(row) + GAP)
        sheet.paste(_thumbnail(photo), (left, upper))
        if photo in row.right or row.wrong_framed:
            corners = (left, upper, left + THUMB - 1, upper + THUMB - 1)
            canvas.rectangle(corners, outline=RIGHT if photo in row.right else WRONG, width=5)
        if row.labels:
            label = fitting(row.labels[number], font, THUMB)
            canvas.text((left, upper + THUMB + 4), label, fill=INK, font=font)


def _thumbnail(photo: Path | str) -> Image.Image:
    if isinstance(photo, Path):
        try:
            return ImageOps.fit(open_image(photo, THUMB), (THUMB, THUMB))
        except BadData:
            return Image.new("RGB", (THUMB, THUMB), GREY)
    blank, font = Image.new("RGB", (THUMB, THUMB), GREY), plain_font(12)
    ImageDraw.Draw(blank).text((GAP, THUMB // 2), fitting(photo, font, THUMB - 2 * GAP), fill=INK, font=font)
    return blank


def fitting(text: str, font: Font, width: int) -> str:
    """``text`` on one line, cut where it is wider than ``width`` pixels."""
    line = " ".join(text.encode("utf-8", "replace").decode("utf-8").split())
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(f"{line}\N{HORIZONTAL ELLIPSIS}") > width:
        line = line[:-1]
    return f"{line.rstrip()}\N{HORIZONTAL ELLIPSIS}"


def plain_font(size: int) -> Font:
    """DejaVu, which comes with matplotlib and has letters of many languages; Pillow's own where it is not there."""
    found = find_spec("matplotlib")
    if found is not None and found.origin is not None:
        file = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if file.is_file():
            return ImageFont.truetype(str(file), size)
    return ImageFont.load_default(size=size)
