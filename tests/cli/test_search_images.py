"""``xmodal search`` with ``--html`` and ``--sheet``: the photos of the results as files."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from helpers.fake_search import fake_open
from helpers.html_pages import read_page
from PIL import Image

from xmodal_cli.recipes import search as recipe
from xmodal_cli.retrieval.search_result import SearchResult

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three photos of an index, one of which cannot be read, and a search that returns them."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my photos"
    folder.mkdir()
    for name in ("red", "green"):
        Image.new("RGB", (60, 40), name).save(folder / f"{name}.jpg")
    (folder / "blue.jpg").write_text("not an image")
    open_searcher = fake_open(folder, [])

    def search(
        words: Any, name: str | None, num_hits: int, reporter: Any, fold: bool = True, runtime: str = "auto"
    ) -> SearchResult:
        return open_searcher(name).search(words, num_hits)

    monkeypatch.setattr(recipe, "open_searcher", open_searcher)
    monkeypatch.setattr(recipe, "search", search)
    return folder


def test_the_page_and_the_sheet_have_the_hits(xmodal: Run, photos: Path) -> None:
    plain = xmodal("search", "a green car", "-k", 3)
    outcome = xmodal("search", "a green car", "-k", 3, "--html", "out/page.html", "--sheet", "out/sheet.png")
    assert (outcome.code, outcome.out) == (0, plain.out)
    assert outcome.err.splitlines() == ["page: out/page.html", "sheet: out/sheet.png"]
    page = read_page(Path("out/page.html").read_bytes())
    assert "a green car" in page.text
    for text in ("1 · 1.0000", "2 · 0.5000", "3 · 0.3333", "blue.jpg"):
        assert text in page.text
    assert [image["alt"] for image in page.images] == ["green.jpg", "red.jpg"]
    links = [unquote(link) for link in page.linked if link.startswith("file:")]
    assert links == [f"file://{photos / name}.jpg" for name in ("green", "red", "blue")]
    with Image.open("out/sheet.png") as sheet:
        colors = {color for _, color in sheet.convert("RGB").getcolors(1 << 20) or []}
    for wanted in ((0, 128, 0), (255, 0, 0)):  # as saved in a JPEG
        assert any(max(abs(a - b) for a, b in zip(color, wanted, strict=True)) < 3 for color in colors)


def test_with_json_only_the_result_is_on_stdout(xmodal: Run) -> None:
    outcome = xmodal("search", "a green car", "--html", "page.html", "--preview", "--json")
    assert outcome.code == 0
    assert outcome.json == xmodal("search", "a green car", "--json").json
    assert Path("page.html").is_file()


def test_each_line_of_stdin_is_a_section(xmodal: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("a green car\n-red sky\n"))
    outcome = xmodal("search", "--html", "page.html", "--sheet", "sheet.png")
    assert outcome.code == 0
    page = read_page(Path("page.html").read_bytes())
    assert page.elements.count("h2") == 2
    with Image.open("sheet.png") as two_rows:
        height = two_rows.height
    assert xmodal("search", "a green car", "--sheet", "sheet.png").code == 0  # its own file is replaced
    with Image.open("sheet.png") as one_row:
        assert one_row.height < height


@pytest.mark.parametrize(
    ("option", "file", "message"),
    [
        ("--html", "photo.jpg", "--html photo.jpg does not end with .html"),
        ("--sheet", "photo.jpg", "--sheet photo.jpg does not end with .png"),
        ("--sheet", "photo.png", "photo.png already exists and is not a file of --sheet"),
        ("--html", "mine.html", "mine.html already exists and is not a file of --html"),
        ("--html", "folder.html", "folder.html is a folder"),
    ],
)
def test_other_files_are_never_replaced(xmodal: Run, option: str, file: str, message: str) -> None:
    Image.new("RGB", (4, 4), "red").save("photo.png")
    Path("mine.html").write_text("<!doctype html><title>mine</title>")
    Path("folder.html").mkdir()
    before = Path("photo.png").read_bytes(), Path("mine.html").read_text()
    outcome = xmodal("search", "a green car", option, file)
    assert outcome.code == 1
    assert f"error: {message}\nhint: " in outcome.err
    assert outcome.out == ""  # the files are checked before the search
    assert (Path("photo.png").read_bytes(), Path("mine.html").read_text()) == before


def test_a_term_may_follow_the_options(xmodal: Run) -> None:
    outcome = xmodal("search", "--html", "page.html", "-red", "a green car")
    assert outcome.code == 0
    assert "-red a green car" in read_page(Path("page.html").read_bytes()).text


def test_nothing_is_shown_off_a_terminal(xmodal: Run) -> None:
    assert xmodal("search", "a green car", "--preview").out == xmodal("search", "a green car").out


def test_a_line_that_fails_does_not_prevent_the_files(xmodal: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO('a green car\n"unbalanced\n'))
    outcome = xmodal("search", "--html", "page.html")
    assert outcome.code == 1
    assert read_page(Path("page.html").read_bytes()).elements.count("h2") == 1
