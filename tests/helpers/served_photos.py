"""Photos for the tests of the server."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
from PIL import Image

NUM_PHOTOS = 8


def paint(file: Path, seed: int, size: tuple[int, int] = (200, 150)) -> Path:
    """A photo of smooth random colors, with the EXIF facts of a camera."""
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0110], exif.get_ifd(0x8769)[0x8827] = "Box Camera", 400  # model, ISO
    Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(file, quality=92, exif=exif)
    return file


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port
