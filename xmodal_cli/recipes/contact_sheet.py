"""A picture of search results: a row per query, its photos from best to worst, right ones framed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from xmodal_cli.data.images import open_image
from xmodal_cli.errors import BadData
from xmodal_cli.paths import atomic_path

THUMB, GAP, LINE = 144, 10, 26  # pixels
PAPER, INK, RIGHT = "#ffffff", "#222222", "#1a9c4b"


@dataclass(frozen=True)
class Row:
    """A query and its photos; ``right`` holds those that answer it, empty where nobody knows."""

    query: str
    photos: Sequence[Path]
    right: frozenset[Path] = frozenset()


def draw_contact_sheet(rows: Sequence[Row], out: Path) -> Path:
    """Write the PNG ``out`` and return it; a photo that cannot be read is a grey square. Raises StorageError."""
    columns = max((len(row.photos) for row in rows), default=1)
    height = GAP + len(rows) * (LINE + THUMB + GAP)
    sheet = Image.new("RGB", (GAP + columns * (THUMB + GAP), height), PAPER)
    canvas = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=16)
    for number, row in enumerate(rows):
        top = GAP + number * (LINE + THUMB + GAP)
        canvas.text((GAP, top), row.query, fill=INK, font=font)
        for column, photo in enumerate(row.photos):
            corner = (GAP + column * (THUMB + GAP), top + LINE)
            sheet.paste(_thumbnail(photo), corner)
            if photo in row.right:
                far = (corner[0] + THUMB - 1, corner[1] + THUMB - 1)
                canvas.rectangle((corner, far), outline=RIGHT, width=5)
    with atomic_path(out) as draft:
        sheet.save(draft, format="PNG")
    return out


def _thumbnail(photo: Path) -> Image.Image:
    try:
        return ImageOps.fit(open_image(photo, THUMB), (THUMB, THUMB))
    except BadData:
        return Image.new("RGB", (THUMB, THUMB), "#bbbbbb")
