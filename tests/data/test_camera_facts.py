"""EXIF facts: as cameras write them, damaged, and absent."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from xmodal_cli.data.camera_facts import CameraFacts, read_camera_facts


def photo(folder: Path, make: object, model: object, settings: dict[int, object], gps: dict[int, object]) -> Path:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = make, model
    exif.get_ifd(0x8769).update(settings)
    exif.get_ifd(0x8825).update(gps)
    Image.new("RGB", (8, 8)).save(folder / "a.jpg", exif=exif)
    return folder / "a.jpg"


def test_facts_of_a_camera(tmp_path: Path) -> None:
    settings = {
        0x829A: IFDRational(1, 250),
        0x829D: IFDRational(28, 10),
        0x8827: 400,
        0x920A: IFDRational(50, 1),
        0xA434: "50mm f/1.8",
    }
    file = photo(tmp_path, "NIKON CORPORATION", "NIKON D90", settings, {1: "N", 2: (IFDRational(1), 2, 3)})
    assert read_camera_facts(file) == CameraFacts("NIKON D90", "50mm f/1.8", 0.004, 2.8, 400, 50.0, True)


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [("Apple", "iPhone 12", "Apple iPhone 12"), ("Canon", "Canon EOS 5D", "Canon EOS 5D"), ("", "X100", "X100")],
)
def test_the_maker_is_named_once(tmp_path: Path, make: str, model: str, camera: str) -> None:
    assert read_camera_facts(photo(tmp_path, make, model, {}, {})).camera == camera


def test_damaged_values_are_left_out(tmp_path: Path) -> None:
    settings = {0x829A: IFDRational(1, 0), 0x829D: IFDRational(0, 1), 0xA434: "\0\0"}
    facts = read_camera_facts(photo(tmp_path, " ", "x" * 5000, settings, {}))
    assert facts == CameraFacts(camera="x" * 100)


def test_files_without_exif_data(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8\xff nothing")
    for name in ("a.png", "b.jpg", "missing.jpg"):
        assert read_camera_facts(tmp_path / name) == CameraFacts()
