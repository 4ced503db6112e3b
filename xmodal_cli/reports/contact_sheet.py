"""A contact sheet of search results: a row per query, its photos from best to worst, correct ones framed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from xmodal_cli.data.images import open_image
from xmodal_cli.errors import BadData
from xmodal_cli.paths import atomic_path

THUMB, GAP, LINE = 144, 10, 26  # pixels
PAPER, INK, GREY, RIGHT, WRONG = "#ffffff", "#222222", "#bbbbbb", "#1a9c4b", "#c6352b"
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Row:
    """A query and its photos; ``right`` are the correct ones, empty if they are not known.

    A photo of which only the name is known is given as a string. ``wrong_framed`` frames the others too, in red.
    """

    query: str
    photos: Sequence[Path | str]
    right: frozenset[Path | str] = frozenset()
    wrong_framed: bool = False


def draw_contact_sheet(rows: Sequence[Row], out: Path) -> Path:
    """Write the PNG ``out`` and return it; a photo that cannot be read is a grey square. Raises StorageError."""
    columns = max((len(row.photos) for row in rows), default=1)
    height = GAP + len(rows) * (LINE + THUMB + GAP)
    sheet = Image.new("RGB", (GAP + columns * (THUMB + GAP), height), PAPER)
    canvas = ImageDraw.Draw(sheet)
    font = plain_font(16)
    for number, row in enumerate(rows):
        top = GAP + number * (LINE + THUMB + GAP)
        canvas.text((GAP, top), fitting(row.query, font, sheet.width - 2 * GAP), fill=INK, font=font)
        for column, photo in enumerate(row.photos):
            corner = (GAP + column * (THUMB + GAP), top + LINE)
            sheet.paste(_thumbnail(photo), corner)
            if photo in row.right or row.wrong_framed:
                far = (corner[0] + THUMB - 1, corner[1] + THUMB - 1)
                canvas.rectangle((corner, far), outline=RIGHT if photo in row.right else WRONG, width=5)
    with atomic_path(out) as draft:
        sheet.save(draft, format="PNG")
    return out


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
