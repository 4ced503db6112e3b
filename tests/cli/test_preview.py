"""``--preview``: the photos of the hits side by side, with rank and score below."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from xmodal_cli.cli import graphics_terminal, preview
from xmodal_cli.reports.terminal_images import GraphicsProtocol
from xmodal_cli.retrieval.search_result import Hit, SearchResult


def result(folder: Path, count: int) -> SearchResult:
    hits = []
    for number in range(count):
        Image.new("RGB", (60, 40), (40 * number, 0, 0)).save(folder / f"{number}.png")
        hits.append(Hit(number + 1, str(folder / f"{number}.png"), 0.5 - number / 10))
    return SearchResult("i", "m", "cosine", ("a",), tuple(hits), count, 0, ())


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal with space for two photos, which shows half blocks."""
    monkeypatch.setenv("COLUMNS", str(2 * preview.COLUMNS + preview.GAP + 1))
    monkeypatch.setattr(graphics_terminal, "find_protocol", lambda: GraphicsProtocol.BLOCKS)


def test_photos_are_wrapped_with_their_scores_below(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preview.print_preview(result(tmp_path, 3))
    lines = capsys.readouterr().out.split("\n")
    plain = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in lines]
    block = "▀" * preview.COLUMNS
    assert plain == [
        *[block + " " * preview.GAP + block] * preview.ROWS,
        "1  0.5000".ljust(preview.COLUMNS + preview.GAP) + "2  0.4000",
        *[block] * preview.ROWS,
        "3  0.3000",
        "",
    ]
    assert {line.count("48;2;40;0;0") for line in lines[: preview.ROWS]} == {preview.COLUMNS}


def test_a_photo_that_cannot_be_read_is_gray(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = result(tmp_path, 1)
    (tmp_path / "0.png").write_text("not an image")
    preview.print_preview(found)
    assert capsys.readouterr().out.count("48;2;187;187;187") == preview.COLUMNS * preview.ROWS


def test_a_terminal_without_colors_and_no_hits_print_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    preview.print_preview(result(tmp_path, 0))
    monkeypatch.setattr(graphics_terminal, "find_protocol", lambda: None)
    preview.print_preview(result(tmp_path, 2))
    assert capsys.readouterr().out == ""
