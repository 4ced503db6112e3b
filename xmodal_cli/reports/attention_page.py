"""Attention maps of a captioner: one PNG per photo with a tile per word, and a page with all of them.

Captioners resize a photo to a square, without keeping its aspect ratio; the square map is resized back to the photo.
For captioners that attend to regions the tiles show their boxes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np
from PIL import Image, ImageDraw

from xmodal_cli.captioning.attention_maps import square_maps
from xmodal_cli.data.images import open_image
from xmodal_cli.errors import BadData, StorageError
from xmodal_cli.output_files import check_output_folder
from xmodal_cli.paths import atomic_path, make_folder, write_bytes
from xmodal_cli.reports.attention_boxes import draw_boxes
from xmodal_cli.reports.contact_sheet import GAP, INK, LINE, PAPER, fitting, plain_font
from xmodal_cli.reports.pages import render

if TYPE_CHECKING:
    from xmodal_cli.inference.caption_types import Caption


PAGE = "index.html"
TILE, COLUMNS = 192, 5  # pixels of a tile's longer side
_DARK, _WARM = 0.25, (255, 110, 20)  # brightness at weight 0; the tint at weight 1
_TINT = 0.25


@dataclass(frozen=True)
class AttentionSheet:
    """The PNG of a photo; ``source`` is its relative URL."""

    photo: str
    caption: str
    source: str


@dataclass(frozen=True)
class AttentionSheets:
    """Everything that the template ``attention.html.jinja`` shows."""

    model: str
    sheets: Sequence[AttentionSheet]


def check_folder(folder: Path, force: bool) -> None:
    """Raise StorageError if ``folder`` cannot be written, or has a page and ``force`` is not given. Writes nothing."""
    hint = "choose another folder for --attention, or add --force"
    if not force and os.path.lexists(folder / PAGE):
        raise StorageError(f"{folder / PAGE} already exists", hint)
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{folder} is not a folder", "choose another folder for --attention")
    check_output_folder(folder)


class AttentionPage:
    """Writes the maps into ``folder`` as captions are generated, and at the end ``index.html`` with all of them."""

    def __init__(self, folder: Path, model: str, views: int = 1, force: bool = False) -> None:
        """Raises StorageError, before any caption is generated, if the folder cannot be created or is not writable, or
        if it has a page and ``force`` is not given.
        """
        check_folder(folder, force)
        self._folder, self._model, self._views, self._force = folder, model, views, force
        self._sheets: dict[str, AttentionSheet] = {}  # by file name
        make_folder(folder)

    def add(self, photo: Path, caption: Caption) -> str:
        """Write the PNG of a caption; returns the reason if that is not possible, else "". Raises StorageError."""
        if caption.attention is None or not caption.words:
            return f"{photo}: no attention map, because the caption has no attention weights"
        try:
            image = open_image(photo, 2 * TILE)
        except BadData as error:  # deleted or changed after it was captioned
            return error.message
        if caption.boxes is None:
            sheet = draw_maps(image, caption.words, square_maps(caption.attention, self._views))
        else:
            sheet = draw_regions(image, caption.words, caption.attention, caption.boxes)
        name = self._free_name(photo)
        with atomic_path(self._folder / name) as draft:
            sheet.save(draft, format="PNG")
        self._sheets[name] = AttentionSheet(str(photo), caption.text, quote(os.fsencode(name)))
        return ""

    def finish(self) -> Path | None:
        """Write the page and return its path; None if there is no map. Raises StorageError."""
        if not self._sheets:
            return None
        file = self._folder / PAGE
        page = AttentionSheets(self._model, list(self._sheets.values()))
        write_bytes(file, render("attention", {"page": page}).encode("utf-8"))
        return file

    def _free_name(self, photo: Path) -> str:
        """``PHOTO-attention.png``, with a number if another photo of this run, or without ``force`` a file, has it."""
        number = 1
        while True:
            name = f"{photo.stem}-attention{f'-{number}' if number > 1 else ''}.png"
            if name not in self._sheets and (self._force or not os.path.lexists(self._folder / name)):
                return name
            number += 1


def draw_maps(image: Image.Image, words: list[str], maps: np.ndarray) -> Image.Image:
    """The photo, then the photo per word under its map of (words, side, side): bright where the weight is high."""
    return _draw_sheet(image, words, draw_tiles(image, maps))


def draw_regions(image: Image.Image, words: list[str], weights: np.ndarray, boxes: np.ndarray) -> Image.Image:
    """The photo, then the photo per word under its boxes (regions, 4); ``weights`` is (words, regions)."""
    photo = _tile(image)
    return _draw_sheet(image, words, (draw_boxes(photo, row, boxes) for row in weights))


def _draw_sheet(image: Image.Image, words: list[str], tiles_of_words: Iterator[Image.Image]) -> Image.Image:
    photo = _tile(image)
    tiles = [("", photo), *zip(words, tiles_of_words, strict=False)]
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


def draw_tiles(image: Image.Image, maps: np.ndarray) -> Iterator[Image.Image]:
    """A thumbnail of the photo under each map of (words, side, side)."""
    photo = _tile(image)
    return (_warmed(photo, weights) for weights in maps)


def _tile(image: Image.Image) -> Image.Image:
    scale = TILE / max(image.size)
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))


def _warmed(photo: Image.Image, weights: np.ndarray) -> Image.Image:
    """``photo`` under a map (side, side) of weights in [0, 1]."""
    smooth = Image.fromarray(weights.astype(np.float32)).resize(photo.size, Image.Resampling.BICUBIC)
    weight = np.clip(np.asarray(smooth), 0, 1)[..., None]  # (height, width, 1)
    lit = np.asarray(photo, np.float32) * (_DARK + (1 - _DARK) * weight)
    tinted = lit + _TINT * weight * (np.array(_WARM, np.float32) - lit)
    return Image.fromarray(tinted.round().astype(np.uint8))
