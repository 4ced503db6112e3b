"""What a captioner looked at, word by word: a PNG for each photo, and a page with all of them.

Captioners see a photo squashed to a square, so that a square map of weights stretches over all of the photo.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np
from PIL import Image, ImageDraw

from xmodal_cli.captioning.attention_maps import square_maps
from xmodal_cli.data.images import open_image
from xmodal_cli.errors import BadData, StorageError
from xmodal_cli.paths import atomic_path, storage_errors, write_bytes
from xmodal_cli.reports.contact_sheet import GAP, INK, LINE, PAPER, fitting, plain_font
from xmodal_cli.reports.retrieval_page import STYLE

if TYPE_CHECKING:
    from xmodal_cli.inference.captions import Caption


PAGE = "index.html"
TILE, COLUMNS = 192, 5  # pixels of a tile's longer side
_DARK, _WARM = 0.25, (255, 110, 20)  # brightness where nobody looks; the tint where somebody does
_TINT = 0.25


@dataclass(frozen=True)
class _Drawn:
    photo: Path
    caption: str
    image: str  # its file's name


class AttentionPage:
    """Draws maps into ``folder`` as captions come, and at last ``index.html`` with all of them."""

    def __init__(self, folder: Path, model: str, views: int = 1, force: bool = False) -> None:
        """Raises StorageError, before the work, where the folder cannot be made or written to, or where it holds a page
        already and ``force`` is not given.
        """
        if not force and os.path.lexists(folder / PAGE):
            raise StorageError(
                f"{folder / PAGE} is there already", "choose another folder for --attention, or add --force"
            )
        self._folder, self._model, self._views, self._force = folder, model, views, force
        self._drawn: list[_Drawn] = []
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise StorageError(f"{folder} cannot be written to", "choose another folder for --attention")

    def add(self, photo: Path, caption: Caption) -> str:
        """Draw the map of a caption; gives the reason if that could not be done, else "". Raises StorageError."""
        if caption.attention is None or not caption.words:
            return f"{photo}: the caption came without attention, so there is no map of it"
        try:
            picture = open_image(photo, 2 * TILE)
        except BadData as error:  # gone since it was captioned
            return error.message
        sheet = draw_maps(picture, caption.words, square_maps(caption.attention, self._views))
        name = self._free_name(photo)
        with atomic_path(self._folder / name) as draft:
            sheet.save(draft, format="PNG")
        self._drawn.append(_Drawn(photo, caption.text, name))
        return ""

    def finish(self) -> Path | None:
        """Write the page of all that was drawn, if anything was; gives its file. Raises StorageError."""
        if not self._drawn:
            return None
        file = self._folder / PAGE
        write_bytes(file, _page(self._model, self._drawn).encode("utf-8", "backslashreplace"))
        return file

    def _free_name(self, photo: Path) -> str:
        """``photo-attention.png``, numbered where another photo of this run, or without ``force`` a file, has it."""
        used, number = {drawn.image for drawn in self._drawn}, 1
        while True:
            name = f"{photo.stem}-attention{f'-{number}' if number > 1 else ''}.png"
            if name not in used and (self._force or not os.path.lexists(self._folder / name)):
                return name
            number += 1


def draw_maps(picture: Image.Image, words: list[str], maps: np.ndarray) -> Image.Image:
    """The photo, then once for each word with its map (words, side, side) over it: light and warm where it looked."""
    photo = _tile(picture)
    tiles = [("", photo), *zip(words, draw_tiles(picture, maps), strict=False)]
    columns, rows = min(COLUMNS, len(tiles)), math.ceil(len(tiles) / COLUMNS)
    width, height = max(photo.width, TILE // 2), photo.height + LINE
    sheet = Image.new("RGB", (GAP + columns * (width + GAP), GAP + rows * (height + GAP)), PAPER)
    canvas, font = ImageDraw.Draw(sheet), plain_font(16)
    for number, (word, tile) in enumerate(tiles):
        row, column = divmod(number, COLUMNS)
        left, top = GAP + column * (width + GAP), GAP + row * (height + GAP)
        sheet.paste(tile, (left, top))
        canvas.text((left, top + photo.height + 3), fitting(word, font, width), fill=INK, font=font)
    return sheet


def draw_tiles(picture: Image.Image, maps: np.ndarray) -> Iterator[Image.Image]:
    """The photo, small, once under each map of (words, side, side)."""
    photo = _tile(picture)
    return (_warmed(photo, weights) for weights in maps)


def _tile(picture: Image.Image) -> Image.Image:
    scale = TILE / max(picture.size)
    return picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))


def _warmed(photo: Image.Image, weights: np.ndarray) -> Image.Image:
    """``photo`` under a map (side, side) of weights from 0 to 1."""
    smooth = Image.fromarray(weights.astype(np.float32)).resize(photo.size, Image.Resampling.BICUBIC)
    weight = np.clip(np.asarray(smooth), 0, 1)[..., None]  # (height, width, 1)
    lit = np.asarray(photo, np.float32) * (_DARK + (1 - _DARK) * weight)
    tinted = lit + _TINT * weight * (np.array(_WARM, np.float32) - lit)
    return Image.fromarray(tinted.round().astype(np.uint8))


def _page(model: str, drawn: list[_Drawn]) -> str:
    title = escape(f"What {model} looked at")
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{title}</title>\n'
        f"<style>{STYLE}img {{ max-width: 100%; border-radius: 4px }}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        f'<p class="dim">Light and warm where the model looked when it chose the word.</p>\n'
        + "\n".join(_section(entry) for entry in drawn)
        + "\n</body>\n</html>\n"
    )


def _section(entry: _Drawn) -> str:
    source = quote(os.fsencode(entry.image))
    caption = escape(entry.caption)
    return (
        f'<h3>{caption} <span class="dim">{escape(str(entry.photo))}</span></h3>\n<img src="{source}" alt="{caption}">'
    )
