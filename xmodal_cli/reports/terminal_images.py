"""Images as text for terminals: the protocols of kitty and iTerm2, sixel graphics, and half blocks in color.

``encode`` returns the characters that show an RGBA image at the cursor. Transparent pixels show the background of the
terminal.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from enum import StrEnum
from itertools import groupby

import numpy as np
from PIL import Image

ESCAPE = "\x1b"
CHUNK = 4096  # bytes of base64 in one command of the kitty protocol
COLORS = 255  # of a sixel palette
OPAQUE = 128  # alpha


class GraphicsProtocol(StrEnum):
    """How a terminal shows images. ``BLOCKS`` and ``BLOCKS_256`` need no support: two pixels are one character."""

    KITTY = "kitty"
    ITERM2 = "iterm2"
    SIXEL = "sixel"
    BLOCKS = "blocks"
    BLOCKS_256 = "blocks-256"


def encode(image: Image.Image, protocol: GraphicsProtocol, cells: tuple[int, int], cell: tuple[int, int]) -> str:
    """The characters that show ``image`` in ``cells`` (columns, rows) of ``cell`` (width, height) pixels.

    The cursor is in the first column before, and in the last row of the image after.
    """
    columns, rows = cells
    if protocol in (GraphicsProtocol.BLOCKS, GraphicsProtocol.BLOCKS_256):
        color = _true_color if protocol == GraphicsProtocol.BLOCKS else _indexed_color
        return _blocks(image.resize((columns, 2 * rows), Image.Resampling.BOX), color)
    if protocol == GraphicsProtocol.SIXEL:
        return _sixel(image.resize((columns * cell[0], rows * cell[1])))
    return (_kitty if protocol == GraphicsProtocol.KITTY else _iterm2)(_png(image), columns, rows)


def _png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG", compress_level=1)
    return content.getvalue()


def _kitty(png: bytes, columns: int, rows: int) -> str:
    """https://sw.kovidgoyal.net/kitty/graphics-protocol/: transmit and display, in chunks, without replies."""
    data = base64.b64encode(png).decode("ascii")
    chunks = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]
    parts = []
    for number, chunk in enumerate(chunks):
        head = f"a=T,f=100,q=2,c={columns},r={rows}," if number == 0 else ""
        parts.append(f"{ESCAPE}_G{head}m={int(number < len(chunks) - 1)};{chunk}{ESCAPE}\\")
    return "".join(parts)


def _iterm2(png: bytes, columns: int, rows: int) -> str:
    """https://iterm2.com/documentation-images.html."""
    arguments = f"inline=1;size={len(png)};width={columns};height={rows};preserveAspectRatio=0"
    return f"{ESCAPE}]1337;File={arguments}:{base64.b64encode(png).decode('ascii')}\x07"


def _sixel(image: Image.Image) -> str:
    """Bands of six rows; in each band one line per color, run-length encoded. Transparent pixels are not drawn."""
    quantized = image.convert("RGB").quantize(COLORS)
    palette = np.array(quantized.getpalette() or [], np.uint8).reshape(-1, 3)
    pixels = np.array(quantized, np.int64)
    pixels[np.asarray(image.getchannel("A")) < OPAQUE] = -1
    height, width = pixels.shape
    pixels = np.pad(pixels, ((0, -height % 6), (0, 0)), constant_values=-1)
    used = np.unique(pixels[pixels >= 0])
    registers = "".join(f"#{color};2;" + ";".join(f"{100 * int(v) // 255}" for v in palette[color]) for color in used)
    bands = "-".join(_sixel_band(pixels[top : top + 6]) for top in range(0, len(pixels), 6))
    return f'{ESCAPE}P0;1;0q"1;1;{width};{height}{registers}{bands}{ESCAPE}\\'


def _sixel_band(band: np.ndarray) -> str:
    """(6, width) palette indices, -1 for transparent."""
    bits = (1 << np.arange(6))[:, None]
    lines = []
    for color in np.unique(band[band >= 0]):
        values = ((band == color) * bits).sum(axis=0)
        lines.append(f"#{color}{_run_lengths((values + 63).astype(np.uint8).tobytes().decode('ascii'))}")
    return "$".join(lines)


def _run_lengths(text: str) -> str:
    return "".join(_run(character, len(list(group))) for character, group in groupby(text))


def _run(character: str, count: int) -> str:
    return f"!{count}{character}" if count > 3 else character * count


def _blocks(image: Image.Image, color: Callable[[np.ndarray], str]) -> str:
    """Two pixels per character: the upper half in the foreground color, the lower half in the background color."""
    pixels = np.asarray(image.convert("RGBA"))
    rows = [_block_row(pixels[top], pixels[top + 1], color) for top in range(0, len(pixels) - 1, 2)]
    return "\n".join(rows)


def _block_row(upper: np.ndarray, lower: np.ndarray, color: Callable[[np.ndarray], str]) -> str:
    return "".join(_block_cells(upper, lower, color)).rstrip(" ") + f"{ESCAPE}[0m"


def _block_cells(upper: np.ndarray, lower: np.ndarray, color: Callable[[np.ndarray], str]) -> Iterator[str]:
    for top, bottom in zip(upper, lower, strict=True):
        if min(top[3], bottom[3]) < OPAQUE:
            yield f"{ESCAPE}[0m "
        else:
            yield f"{ESCAPE}[38;{color(top)};48;{color(bottom)}m\N{UPPER HALF BLOCK}"


def _true_color(pixel: np.ndarray) -> str:
    return f"2;{pixel[0]};{pixel[1]};{pixel[2]}"


def _indexed_color(pixel: np.ndarray) -> str:
    """The nearest color of the 6x6x6 cube of 256-color terminals."""
    red, green, blue = ((int(value) * 5 + 127) // 255 for value in pixel[:3])
    return f"5;{16 + 36 * red + 6 * green + blue}"
