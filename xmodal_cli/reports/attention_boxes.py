"""Attention over regions: a photo under its boxes, bright where their weights are high, the highest with numbers."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from xmodal_cli.reports.contact_sheet import plain_font

OUTLINED = 3  # boxes with an outline and their weight
MIN_OUTLINED = 0.05  # smallest weight with an outline
_DARK, _OUTLINE, _PAPER = 0.25, "#ff6e14", "#ffffff"
_FONT = 12  # pixels


def draw_boxes(photo: Image.Image, weights: np.ndarray, boxes: np.ndarray) -> Image.Image:
    """``photo`` under the boxes of one word.

    ``weights`` (regions,) sum to 1; ``boxes`` (regions, 4) are corners relative to the sides of the photo, without area
    for padding. The brightness is that of the box with the highest weight.
    """
    corners = _to_pixels(boxes, photo.size)
    brightness = np.zeros((photo.height, photo.width), np.float32)
    drawn = [n for n in np.argsort(weights, kind="stable") if _has_area(boxes[n])]
    largest = max((float(weights[n]) for n in drawn), default=0.0)
    for n in drawn:  # the highest weight last, so that it is the one that counts
        left, top, right, bottom = corners[n]
        brightness[top : bottom + 1, left : right + 1] = weights[n] / max(largest, 1e-12)
    lit = np.asarray(photo, np.float32) * (_DARK + (1 - _DARK) * brightness[..., None])
    tile = Image.fromarray(lit.round().astype(np.uint8))
    for n in drawn[-OUTLINED:]:
        if weights[n] >= MIN_OUTLINED:
            _outline(tile, corners[n], f"{weights[n]:.2f}")
    return tile


def _to_pixels(boxes: np.ndarray, size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """(regions, 4) relative corners -> the first and last column and row of each box."""
    scale = np.array([*size, *size]) - 1
    rounded = (np.clip(boxes[:, :4], 0, 1) * scale).round().astype(int)
    return [(int(left), int(top), int(right), int(bottom)) for left, top, right, bottom in rounded]


def _has_area(box: np.ndarray) -> bool:
    return bool(box[2] > box[0] and box[3] > box[1])


def _outline(tile: Image.Image, corners: tuple[int, int, int, int], label: str) -> None:
    """Draw the box, and its weight inside its upper left corner, moved so that it is not cut."""
    canvas, font = ImageDraw.Draw(tile), plain_font(_FONT)
    canvas.rectangle(corners, outline=_OUTLINE, width=2)
    width, height = round(font.getlength(label)) + 4, _FONT + 4
    left = max(0, min(corners[0], tile.width - width))
    top = max(0, min(corners[1], tile.height - height))
    canvas.rectangle((left, top, left + width, top + height), fill=_OUTLINE)
    canvas.text((left + 2, top + 1), label, fill=_PAPER, font=font)
