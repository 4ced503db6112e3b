"""Formats are recognized by content: of containers with any brand, camera RAW, vector graphics, misleading suffixes."""

from __future__ import annotations

import io
import os
import socket
import stat
import struct
from pathlib import Path

import pytest
from PIL import Image

from xmodal_cli.data import image_content
from xmodal_cli.data.image_content import check_content, missing_plugin, sniff
from xmodal_cli.data.images import image_size, open_image
from xmodal_cli.errors import BadImage, Category

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"


def container(major: bytes, *compatible: bytes, item: bytes = b"") -> bytes:
    body = major + bytes(4) + b"".join(compatible)
    return struct.pack(">I", 8 + len(body)) + b"ftyp" + body + b"\0\0\0\x40meta" + bytes(40) + item + bytes(20)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (container(b"mif1", b"avif", b"mif1", b"miaf"), "AVIF"),
        (container(b"mif1", b"mif1", b"heic"), "HEIF"),
        (container(b"msf1", b"avis"), "AVIF"),
        (container(b"msf1", b"hevc"), "HEIF"),
        (container(b"heic", b"mif1", b"heic"), "HEIF"),
        (container(b"avif"), "AVIF"),
        (container(b"avis", b"msf1"), "AVIF"),
        (container(b"mif1", b"mif1", item=b"infe\2\0\0\0\0\1\0\0av01"), "AVIF"),
        (container(b"mif1", b"mif1", item=b"infe\2\0\0\0\0\1\0\0hvc1"), "HEIF"),
        (container(b"miaf", b"heic", b"avif", item=b"infe\2\0\0\0\0\1\0\0av01"), "AVIF"),
        (container(b"crx ", b"crx "), Category.RAW),
        (container(b"isom", b"mp41"), Category.NOT_AN_IMAGE),
    ],
)
def test_containers_are_recognized_by_items_and_brands(content: bytes, expected: str) -> None:
    assert sniff(content, "a.jpg") == expected


@pytest.mark.parametrize(
    ("content", "name", "expected"),
    [
        (b"", "a.jpg", Category.EMPTY),
        (b"<html>404</html>", "a.jpg", Category.NOT_AN_IMAGE),
        (b"\xff\xd8\xff\xe0", "IMG_1.CR2", "JPEG"),  # content decides, not the suffix
        (b"\xff\xd8\xff\xe0", "a.heic", "JPEG"),
        (b"\xff\xd8\xff\xe0", "a.svg", "JPEG"),
        (b"II*\0\x10\0\0\0CR\2\0", "a.jpg", Category.RAW),
        (b"FUJIFILMCCD-RAW 0201", "a.jpg", Category.RAW),
        (b"II*\0\x08\0\0\0\0\0", "a.NEF", Category.RAW),  # its thumbnail is a TIFF image
        (b"II*\0\x08\0\0\0\0\0", "a.tif", "TIFF"),
        (b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 0xC612, 1, 4, 1), "a.tif", Category.RAW),  # DNG
        (b"MM\0*\0\0\0\x08\0\2" + struct.pack(">HHIIHHII", 254, 4, 1, 1, 330, 4, 1, 99), "a.tif", Category.RAW),
        (b"\xff\x0a\0\0", "a.jpg", "JXL"),
        (b'<?xml version="1.0"?>\n<!-- c --><svg xmlns="x"/>', "a.jpg", Category.SVG),
        (b"\xef\xbb\xbf  <SVG>", "a.png", Category.SVG),
        (EPS, "a.jpg", Category.VECTOR),
        (b"\xc5\xd0\xd3\xc6" + EPS, "a.jpg", Category.VECTOR),
        (b"%PDF-1.7", "a.png", Category.VECTOR),
        (b"\xd7\xcd\xc6\x9a", "a.jpg", Category.VECTOR),
        (b"unknown", "a.arw", Category.RAW),
        (bytes(18), "a.TGA", "TGA"),
    ],
)
def test_other_files_are_recognized(content: bytes, name: str, expected: str) -> None:
    assert sniff(content, name) == expected


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "JPEG2000", "PPM", "PCX", "QOI", "ICO"])
def test_every_format_opens_under_a_misleading_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("a.pcx" if kind == "PCX" else "a.heic")
    Image.new("RGB", (32, 32), (200, 30, 30)).save(path, kind)
    assert image_size(path) == (32, 32)
    red, green, blue = open_image(path).getpixel((5, 5))
    assert abs(red - 200) < 12 and abs(green - 30) < 12 and abs(blue - 30) < 12


@pytest.mark.parametrize("content", [EPS, b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 32, 90) + bytes(20) + EPS])
def test_no_external_program_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "gs").write_text(f"#!/bin/sh\necho run >> '{tmp_path}/was-run'\n")
    (folder / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "photo.jpg").write_bytes(content)
    for read in (open_image, image_size):
        with pytest.raises(BadImage, match="vector graphics are not supported") as error:
            read(tmp_path / "photo.jpg")
        assert (error.value.category, error.value.may_change) == (Category.VECTOR, False)
    assert not (tmp_path / "was-run").exists()


def test_a_plugin_that_is_missing_or_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pillow_jxl.py").write_text("raise ImportError('libjxl.so not found')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert missing_plugin("JXL") == Category.JXL
    (tmp_path / "a.jpg").write_bytes(b"\xff\x0a" + bytes(50))
    with pytest.raises(BadImage, match="JPEG XL images need the package pillow-jxl-plugin") as error:
        open_image(tmp_path / "a.jpg")
    assert error.value.may_change  # the index tries the file again
    assert missing_plugin("PNG") is None


def test_check_content_reads_only_the_beginning(tmp_path: Path) -> None:
    path = tmp_path / "a.cr3"
    path.write_bytes(container(b"crx "))
    error = check_content(str(path))
    assert error is not None and (error.category, error.may_change) == (Category.RAW, False)
    Image.new("RGB", (8, 8)).save(path, "JPEG")
    assert check_content(str(path)) is None
    path.write_bytes(b"unknown")
    path = path.rename(tmp_path / "a.jpg")
    assert check_content(str(path)) is None  # decoding it reports the reason


@pytest.mark.parametrize("kind", ["pipe", "link", "socket", "device"])
def test_special_files_are_never_opened(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jpg"
    server = socket.socket(socket.AF_UNIX) if kind == "socket" else None
    if kind == "device":
        path.symlink_to("/dev/null")
    elif server is not None:
        monkeypatch.chdir(tmp_path)  # the path of a socket may have 107 bytes
        server.bind("a.jpg")
    else:
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to("pipe") if kind == "link" else (tmp_path / "pipe").rename(path)
    assert not stat.S_ISREG(path.stat().st_mode)
    for read in (open_image, image_size):
        with pytest.raises(BadImage, match=r"a\.jpg cannot be opened: it is a (named pipe|socket|device)") as error:
            read(path)
        assert error.value.category == Category.SPECIAL
    if server is not None:
        server.close()


def test_the_decoder_of_another_format_is_not_tried(tmp_path: Path) -> None:
    content = io.BytesIO()
    Image.new("RGB", (8, 8)).save(content, "PNG")
    (tmp_path / "a.png").write_bytes(content.getvalue()[:8] + EPS)
    with pytest.raises(BadImage, match=r"a\.png cannot be opened") as error:
        open_image(tmp_path / "a.png")
    assert error.value.category == Category.DAMAGED
    assert image_content.format_hint(Category.VECTOR) == "export it as PNG"
