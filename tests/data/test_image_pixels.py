"""Large images of every mode are reduced in little memory, to the same pixels as at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xmodal_cli.data import image_pixels
from xmodal_cli.data.image_pixels import to_rgb


def image_of(mode: str) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (143, 91, 4), dtype=np.uint8)
    if mode.startswith("I;16"):
        deep = values[..., 0].astype(">u2" if mode == "I;16B" else "<u2") * 200
        return Image.frombytes(mode, (91, 143), deep.astype(">u2" if mode == "I;16B" else "<u2").tobytes())
    if mode in ("I", "F"):
        return Image.fromarray(values[..., 0].astype(np.int32 if mode == "I" else np.float32) * 1000)
    if mode == "P":
        image = Image.fromarray(values[..., :3]).quantize(64)
        image.info["transparency"] = 5
        return image
    image = Image.fromarray(values, "RGBA") if mode == "RGBA" else Image.fromarray(values[..., :3])
    if mode == "LA":
        image.putalpha(Image.fromarray(values[..., 3]))
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I", "F", "LA", "RGBA", "P", "CMYK", "1", "L", "RGB", "YCbCr"])
@pytest.mark.parametrize("factor", [1, 4, 7])
def test_bands_give_the_same_pixels(mode: str, factor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    image = image_of(mode)
    assert image.mode == mode
    at_once = to_rgb(image, factor)
    monkeypatch.setattr(image_pixels, "_BAND", 1000)
    in_bands = to_rgb(image, factor)
    assert in_bands.size == at_once.size == (-(-91 // factor), -(-143 // factor))
    assert in_bands.mode == "RGB"
    assert np.abs(np.asarray(in_bands).astype(int) - np.asarray(at_once)).max() <= 1


_PEAK = """
import resource, sys
from pathlib import Path
from xmodal_cli.data import images
images.open_image(Path(sys.argv[1]), 64)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
images._LARGE = 1_000_000
images.open_image(Path(sys.argv[2]), 64)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes on Linux")
@pytest.mark.parametrize("mode", ["I;16", "F", "RGBA"])
def test_memory_is_that_of_the_decoded_image(tmp_path: Path, mode: str) -> None:
    side = 5000  # 25 megapixels: 100 MB at 4 bytes per pixel
    Image.new(mode, (50, 50)).save(tmp_path / "small.tif")
    Image.new(mode, (side, side)).save(tmp_path / "large.tif", compression="tiff_deflate")
    files = [str(tmp_path / name) for name in ("small.tif", "large.tif")]
    result = subprocess.run([sys.executable, "-c", _PEAK, *files], capture_output=True, text=True, check=True)
    assert int(result.stdout) < 250  # 600 MB and more when all pixels are converted at once
