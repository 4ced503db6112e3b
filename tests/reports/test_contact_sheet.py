"""Contact sheets: a row per query, wrapped, with labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xmodal_cli.reports.contact_sheet import GAP, LINE, THUMB, Row, draw_contact_sheet, is_contact_sheet


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Seven photos, each of one color."""
    files = [tmp_path / f"{number}.png" for number in range(7)]
    for number, file in enumerate(files):
        Image.new("RGB", (90, 60), (30 * number, 255 - 30 * number, 200)).save(file)
    return files


def pixels_of(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def color_at(sheet: np.ndarray, column: int, top: int) -> tuple[int, ...]:
    return tuple(sheet[top + THUMB // 2, GAP + column * (THUMB + GAP) + THUMB // 2])


@pytest.mark.parametrize(("labels", "cell"), [((), THUMB), (tuple("1234567"), THUMB + LINE)])
def test_photos_are_wrapped_in_their_order(
    photos: list[Path], tmp_path: Path, labels: tuple[str, ...], cell: int
) -> None:
    rows = [Row("first", photos, labels=labels), Row("second", photos[:1], labels=labels[:1])]
    out = draw_contact_sheet(rows, tmp_path / "sheet.png", max_columns=3)
    sheet = pixels_of(out)
    assert sheet.shape[1] == GAP + 3 * (THUMB + GAP)
    assert sheet.shape[0] == GAP + 2 * LINE + 4 * (cell + GAP)
    for number, photo in enumerate(photos):
        top = GAP + LINE + number // 3 * (cell + GAP)
        assert color_at(sheet, number % 3, top) == tuple(pixels_of(photo)[0, 0])
    assert color_at(sheet, 0, GAP + 2 * LINE + 3 * (cell + GAP)) == tuple(pixels_of(photos[0])[0, 0])
    label = sheet[GAP + LINE + THUMB : GAP + LINE + THUMB + LINE, GAP : GAP + THUMB]
    assert (label.max(axis=2).min() < 100) == bool(labels)


def test_a_sheet_is_recognized(photos: list[Path], tmp_path: Path) -> None:
    assert is_contact_sheet(draw_contact_sheet([Row("a", photos)], tmp_path / "sheet.png"))
    assert not is_contact_sheet(photos[0])
    (tmp_path / "text.png").write_text("text")
    assert not is_contact_sheet(tmp_path / "text.png")
    assert not is_contact_sheet(tmp_path / "gone.png")


def test_a_sheet_without_photos_has_the_query(tmp_path: Path) -> None:
    out = draw_contact_sheet([Row("nothing", [])], tmp_path / "sheet.png", max_columns=5)
    assert pixels_of(out).shape[:2] == (GAP + LINE + THUMB + GAP, GAP + THUMB + GAP)
