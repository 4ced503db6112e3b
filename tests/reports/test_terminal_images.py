"""Images as text for terminals, decoded again by small readers of each protocol."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from xmodal_cli.reports.terminal_images import CHUNK, GraphicsProtocol, encode

CELLS, CELL = (6, 2), (4, 9)  # an image of 24 x 18 pixels: three bands of sixels


@pytest.fixture
def image() -> Image.Image:
    """Red, a transparent gap, and blue above green."""
    pixels = np.zeros((18, 24, 4), np.uint8)
    pixels[:, :8] = (255, 0, 0, 255)
    pixels[:9, 16:] = (0, 0, 255, 255)
    pixels[9:, 16:] = (0, 255, 0, 255)
    return Image.fromarray(pixels)


def test_kitty_sends_the_png_in_chunks() -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (64, 64, 4), dtype=np.uint8))
    text = encode(noise, GraphicsProtocol.KITTY, CELLS, CELL)
    commands = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", text)
    assert "".join(f"\x1b_G{head};{data}\x1b\\" for head, data in commands) == text
    assert len(commands) > 2
    assert commands[0][0] == "a=T,f=100,q=2,c=6,r=2,m=1"
    assert [head for head, _ in commands[1:]] == ["m=1"] * (len(commands) - 2) + ["m=0"]
    assert all(len(data) == CHUNK for _, data in commands[:-1])
    assert Image.open(io.BytesIO(base64.b64decode("".join(data for _, data in commands)))).tobytes() == noise.tobytes()


def test_iterm2_sends_the_png_and_its_size(image: Image.Image) -> None:
    text = encode(image, GraphicsProtocol.ITERM2, CELLS, CELL)
    found = re.fullmatch(r"\x1b\]1337;File=([^:]*):([A-Za-z0-9+/=]*)\x07", text)
    assert found is not None
    content = base64.b64decode(found[2])
    assert dict(part.split("=") for part in found[1].split(";")) == {
        "inline": "1",
        "size": str(len(content)),
        "width": "6",
        "height": "2",
        "preserveAspectRatio": "0",
    }
    assert Image.open(io.BytesIO(content)).tobytes() == image.tobytes()


def decode_sixel(text: str) -> np.ndarray:
    """(height, width, 4) of a sixel image."""
    found = re.fullmatch(r'\x1bP0;1;0q"1;1;(\d+);(\d+)(.*)\x1b\\', text, flags=re.S)
    assert found is not None
    width, height = int(found[1]), int(found[2])
    pixels = np.zeros((height + 6, width, 4), np.uint8)
    colors: dict[int, tuple[int, ...]] = {}
    color = column = top = 0
    for part in re.finditer(r"#(\d+);2;(\d+);(\d+);(\d+)|#(\d+)|!(\d+)(.)|([?-~])|(\$)|(-)", found[3]):
        if part[1]:
            colors[int(part[1])] = tuple(round(int(v) * 2.55) for v in part.group(2, 3, 4))
        elif part[5]:
            color = int(part[5])
        elif part[9] or part[10]:
            column, top = 0, top + (6 if part[10] else 0)
        else:
            bits = ord(part[7] or part[8]) - 63
            end = column + int(part[6] or 1)
            for row in (row for row in range(6) if bits >> row & 1):
                pixels[top + row, column:end] = (*colors[color], 255)
            column = end
    assert not pixels[height:].any()
    return pixels[:height]


def test_sixels_show_the_image(image: Image.Image) -> None:
    text = encode(image, GraphicsProtocol.SIXEL, CELLS, CELL)
    shown = decode_sixel(text)
    assert shown.shape == (18, 24, 4)
    np.testing.assert_allclose(shown.astype(int), np.asarray(image).astype(int), atol=3)
    assert "!8~" in text  # runs are encoded by their length


@pytest.mark.parametrize(
    ("protocol", "red", "blue"),
    [(GraphicsProtocol.BLOCKS, "2;255;0;0", "2;0;0;255"), (GraphicsProtocol.BLOCKS_256, "5;196", "5;21")],
)
def test_half_blocks_have_two_pixels_per_character(
    image: Image.Image, protocol: GraphicsProtocol, red: str, blue: str
) -> None:
    lines = encode(image, protocol, CELLS, CELL).split("\n")
    assert len(lines) == CELLS[1]
    first = lines[0]
    assert first.startswith(f"\x1b[38;{red};48;{red}m▀" * 2 + "\x1b[0m " * 2)
    assert first.endswith(f"\x1b[38;{blue};48;{blue}m▀" * 2 + "\x1b[0m")
    assert first.count("▀") == 4
