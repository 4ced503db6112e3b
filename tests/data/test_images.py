"""Images of all formats and modes are decoded as upright 8-bit RGB; other files raise BadData with file and reason."""

from __future__ import annotations

import io
import struct
import tarfile
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from xmodal_cli.data import images
from xmodal_cli.data.image_names import is_image_name
from xmodal_cli.data.images import image_size, open_image
from xmodal_cli.errors import BadData

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 160, 0), (0, 0, 255), (255, 255, 255)


def quarters(side: int = 32) -> np.ndarray:
    """(side, 2 * side, 3): red, green above blue, white; all flips and rotations of it differ."""
    rows = [[RED, GREEN], [BLUE, WHITE]]
    small = np.array(rows, dtype=np.uint8)
    return small.repeat(side // 2, axis=0).repeat(side, axis=1)


def displayed(stored: np.ndarray, orientation: int) -> np.ndarray:
    """The displayed image. An EXIF orientation is the sides at which stored row 0 and column 0 are displayed."""
    return {
        1: stored,  # top, left
        2: stored[:, ::-1],  # top, right
        3: stored[::-1, ::-1],  # bottom, right
        4: stored[::-1],  # bottom, left
        5: stored.swapaxes(0, 1),  # left, top
        6: stored.swapaxes(0, 1)[:, ::-1],  # right, top
        7: stored.swapaxes(0, 1)[::-1, ::-1],  # right, bottom
        8: stored.swapaxes(0, 1)[::-1],  # left, bottom
    }[orientation]


def close(image: Image.Image, expected: np.ndarray, within: float = 12.0) -> bool:
    """Whether the image is RGB and the mean absolute difference is at most ``within``."""
    pixels = np.asarray(image).astype(float)
    return image.mode == "RGB" and pixels.shape == expected.shape and bool(np.abs(pixels - expected).mean() <= within)


def pixel(path: Path) -> tuple[int, ...]:
    image = open_image(path)
    assert image.mode == "RGB"
    return tuple(np.asarray(image)[image.height // 2, image.width // 2].tolist())


def png_with_size(path: Path, width: int, height: int) -> Path:
    """A small PNG file with any width and height in its header."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )
    return path


# ---------------------------------------------------------------------------- orientation


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(quarters()).save(path, exif=exif)
    expected = displayed(quarters(), orientation)
    assert close(open_image(path), expected)
    assert image_size(path) == (expected.shape[1], expected.shape[0])


@pytest.mark.parametrize("orientation", [0, 9, 4711])
def test_invalid_orientations_are_ignored(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(quarters()).save(tmp_path / "a.jpg", exif=exif)
    assert close(open_image(tmp_path / "a.jpg"), quarters())
    assert image_size(tmp_path / "a.jpg") == (64, 32)


def test_damaged_exif_is_ignored(tmp_path: Path) -> None:
    Image.fromarray(quarters()).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert close(open_image(tmp_path / "a.jpg"), quarters())
        assert image_size(tmp_path / "a.jpg") == (64, 32)


# ---------------------------------------------------------------------------- modes


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_16_bit_grayscale_is_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    Image.fromarray(ramp).save(tmp_path / f"a{suffix}")
    image = open_image(tmp_path / f"a{suffix}")
    expected = np.rint(ramp / 257.0)
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image).astype(float) - expected[..., None]).max() <= 1


def test_16_bit_grayscale_is_not_normalized(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 257 * 20, np.uint16)).save(tmp_path / "a.png")
    assert pixel(tmp_path / "a.png") == (20, 20, 20)


@pytest.mark.parametrize(("value", "expected"), [(0.0, 0), (0.5, 128), (1.0, 255)])
def test_floats_from_0_to_1(tmp_path: Path, value: float, expected: int) -> None:
    Image.fromarray(np.full((8, 8), value, np.float32)).save(tmp_path / "a.tif")
    assert pixel(tmp_path / "a.tif") == (expected, expected, expected)


def test_nan_is_black(tmp_path: Path) -> None:
    values = np.full((8, 8), np.nan, np.float32)
    values[0] = 200.0
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert pixel(tmp_path / "a.tif") == (0, 0, 0)
    assert np.asarray(open_image(tmp_path / "a.tif"))[0, 0].tolist() == [200, 200, 200]


@pytest.mark.parametrize(("color", "name"), [(RED, "red"), (GREEN, "green"), (BLUE, "blue"), (WHITE, "white")])
def test_cmyk(tmp_path: Path, color: tuple[int, int, int], name: str) -> None:
    path = tmp_path / f"{name}.jpg"
    Image.new("RGB", (16, 16), color).convert("CMYK").save(path, quality=95)
    with Image.open(path) as stored:
        assert stored.mode == "CMYK"
    assert pixel(path) == pytest.approx(color, abs=6)


def test_grayscale_and_1_bit(tmp_path: Path) -> None:
    Image.new("L", (16, 16), 90).save(tmp_path / "grey.png")
    Image.new("1", (16, 16), 1).save(tmp_path / "bits.png")
    Image.new("L", (16, 16), 90).save(tmp_path / "grey.jpg")
    assert pixel(tmp_path / "grey.png") == (90, 90, 90)
    assert pixel(tmp_path / "bits.png") == WHITE
    assert pixel(tmp_path / "grey.jpg") == pytest.approx((90, 90, 90), abs=2)


def test_palette(tmp_path: Path) -> None:
    Image.fromarray(quarters()).quantize(8).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as stored:
        assert stored.mode == "P"
    assert close(open_image(tmp_path / "a.png"), quarters(), within=2)


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_alpha_is_composited_on_white(tmp_path: Path, suffix: str) -> None:
    layer = np.zeros((16, 48, 4), np.uint8)
    layer[..., 0] = 200  # red
    layer[:, 16:32, 3], layer[:, 32:, 3] = 102, 255  # transparent, 40 %, opaque
    Image.fromarray(layer).save(tmp_path / f"a{suffix}", lossless=True)
    image = np.asarray(open_image(tmp_path / f"a{suffix}")).astype(int)
    blended = [round(0.4 * 200 + 0.6 * 255), 153, 153]
    for column, expected in ((8, [255, 255, 255]), (24, blended), (40, [200, 0, 0])):
        assert np.abs(image[8, column] - expected).max() <= 1, column


def test_grayscale_with_alpha_is_composited_on_white(tmp_path: Path) -> None:
    Image.new("LA", (16, 16), (0, 0)).save(tmp_path / "a.png")
    assert pixel(tmp_path / "a.png") == WHITE


def test_a_transparent_palette_entry_is_white(tmp_path: Path) -> None:
    image = Image.new("P", (16, 16), 1)
    image.putpalette([*RED, *BLUE])
    image.save(tmp_path / "clear.png", transparency=1)
    image.save(tmp_path / "solid.png")
    assert pixel(tmp_path / "clear.png") == WHITE
    assert pixel(tmp_path / "solid.png") == BLUE


def test_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 16), color) for color in (RED, BLUE, GREEN)]
    for suffix in (".gif", ".webp", ".png"):
        path = tmp_path / f"a{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=50, lossless=True)
        with Image.open(path) as stored:
            assert getattr(stored, "n_frames", 1) == 3
        assert pixel(path) == pytest.approx(RED, abs=3)


# ---------------------------------------------------------------------------- errors


def error_message(path: Path, max_side: int | None = None) -> str:
    with pytest.raises(BadData) as caught:
        open_image(path, max_side)
    assert str(path) in caught.value.message
    assert caught.value.hint
    return caught.value.message


def photo_bytes(kind: str = "JPEG") -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("max_side", [None, 16])
def test_truncated(tmp_path: Path, kind: str, max_side: int | None) -> None:
    content = photo_bytes(kind)
    path = tmp_path / "a.jpg"
    path.write_bytes(content[: len(content) // 2])
    assert "cannot be opened: " in error_message(path, max_side)


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    assert error_message(tmp_path / "a.jpg").endswith("the file is empty (0 bytes)")


def test_text_with_an_image_suffix(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("<html>404 not found</html>\n" * 100)
    assert error_message(tmp_path / "a.jpg").endswith("it is not an image in a supported format")


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    (tmp_path / "b.jpg").mkdir()
    assert error_message(tmp_path / "a.jpg").endswith("the file does not exist")
    assert "irectory" in error_message(tmp_path / "b.jpg")


@pytest.mark.parametrize("side", [14_000, 60_000, 2**31 - 1])
def test_a_decompression_bomb(tmp_path: Path, side: int) -> None:
    path = png_with_size(tmp_path / "bomb.png", side, side)
    for read in (open_image, image_size):
        with pytest.raises(BadData, match="million") as caught:
            read(path)
        assert str(path) in caught.value.message


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_large_image_is_not_a_decompression_bomb(tmp_path: Path) -> None:
    assert image_size(png_with_size(tmp_path / "scan.png", 13_000, 13_000)) == (13_000, 13_000)


def test_large_compressed_text_chunks_are_an_error(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("note", "x" * (PngImagePlugin.MAX_TEXT_CHUNK + 1), zip=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    assert "cannot be opened" in error_message(tmp_path / "a.png")


# ---------------------------------------------------------------------------- in archives


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "shard-000.tar"
    with tarfile.open(path, "w") as archive:
        for name, content in (("a/1.jpg", photo_bytes()), ("./2.png", photo_bytes("PNG")), ("3.jpg", b"not one")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_members_of_tar_files_open(shard: Path, tmp_path: Path) -> None:
    for name, kind in (("a/1.jpg", "JPEG"), ("2.png", "PNG")):
        (tmp_path / "plain").write_bytes(photo_bytes(kind))
        assert open_image(shard / name).tobytes() == open_image(tmp_path / "plain").tobytes()
        assert image_size(shard / name) == (64, 64)


def test_invalid_and_missing_members(shard: Path) -> None:
    assert error_message(shard / "3.jpg").endswith("it is not an image in a supported format")
    with pytest.raises(BadData, match=r"shard-000\.tar has no member '4\.jpg'"):
        open_image(shard / "4.jpg")


def test_a_truncated_tar_file(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:2000])
    with pytest.raises(BadData, match=r"shard-000\.tar is not a readable tar archive"):
        open_image(shard / "a/1.jpg")


# ---------------------------------------------------------------------------- reduced decoding


@pytest.mark.parametrize(
    ("size", "max_side", "expected"),
    [
        ((800, 400), 100, (200, 100)),  # a quarter
        ((800, 400), 101, (400, 200)),  # a quarter would be one pixel short on the shorter side
        ((400, 800), 50, (50, 100)),  # an eighth
        ((801, 401), 100, (201, 101)),
        ((400, 400), 399, (400, 400)),
        ((300, 200), 1000, (300, 200)),  # never enlarged
    ],
)
def test_jpegs_are_decoded_at_a_reduced_scale_of_at_least_max_side(
    tmp_path: Path, size: tuple[int, int], max_side: int, expected: tuple[int, int]
) -> None:
    Image.new("RGB", size, GREEN).save(tmp_path / "a.jpg")
    image = open_image(tmp_path / "a.jpg", max_side)
    assert image.size == expected
    assert close(image, np.full((expected[1], expected[0], 3), GREEN))
    assert image_size(tmp_path / "a.jpg") == size


def test_a_reduced_jpeg_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(quarters(256)).save(tmp_path / "a.jpg", exif=exif)
    image = open_image(tmp_path / "a.jpg", 64)
    assert close(image, displayed(quarters(64), 6))


def test_large_images_in_other_formats_are_reduced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_LARGE", 1_000_000)
    large = Image.new("L", (1_200, 900), 200)
    large.paste(30, (0, 0, 600, 900))
    large.save(tmp_path / "a.png", compress_level=1)
    image = open_image(tmp_path / "a.png", 26)
    assert image.size == (71, 53)  # 900 // 52 = 17
    assert (image.getpixel((10, 30)), image.getpixel((60, 30))) == ((30,) * 3, (200,) * 3)
    assert open_image(tmp_path / "a.png").size == (1_200, 900)


def test_small_images_in_other_formats_keep_their_size(tmp_path: Path) -> None:
    Image.new("RGB", (400, 200)).save(tmp_path / "a.png")
    assert open_image(tmp_path / "a.png", 20).size == (400, 200)


# ---------------------------------------------------------------------------- names, real photos


@pytest.mark.parametrize("name", ["a.jpg", "a.JPG", "x/y.jpeg", "b.webp", "c.tiff", "d.gif", "e.avif"])
def test_image_names(name: str) -> None:
    assert is_image_name(name)


@pytest.mark.parametrize("name", ["a.txt", "jpg", "a.jpg.1", "._a.jpg", "x/.hidden.png", "a.json", ""])
def test_other_names(name: str) -> None:
    assert not is_image_name(name)


@pytest.mark.realdata
def test_real_photos_open(real_data: Path) -> None:
    paths = sorted((real_data / "photos").glob("*.jpg"))
    assert len(paths) == 80
    for path in paths:
        size = image_size(path)
        image = open_image(path, 224)
        assert image.mode == "RGB"
        assert min(image.size) >= min(224, *size)
        assert image.width / image.height == pytest.approx(size[0] / size[1], abs=0.02)
