"""``xmodal caption --attention DIR``: attention maps per word."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from helpers.html_pages import read_page
from helpers.toy_captioner import Toy, install, paint
from PIL import Image

from xmodal_cli.captioning.attention_maps import is_square, square_maps
from xmodal_cli.reports.attention_page import GAP, LINE, TILE, draw_maps

Run = Callable[..., Any]


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    return install(monkeypatch)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    paint(tmp_path / "a" / "x.png", "white")
    paint(tmp_path / "b" / "x.jpg", "red", "green")
    paint(tmp_path / "b" / "<i>&50%.png", "blue")
    return tmp_path


class Images(HTMLParser):
    def __init__(self, page: Path) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [str(value) for name, value in attrs if name == "src"]


def test_one_image_per_photo_and_a_page(xmodal: Run, toy: Toy, photos: Path) -> None:
    outcome = xmodal("caption", "a", "b", "--attention", "maps")
    assert outcome.code == 0
    assert "attention maps: maps/index.html" in outcome.err
    read_page((photos / "maps" / "index.html").read_bytes())
    page = Images(photos / "maps" / "index.html")
    assert [unquote(source) for source in page.sources] == [
        "x-attention.png",
        "<i>&50%-attention.png",
        "x-attention-2.png",
    ]
    assert "i" not in page.tags
    for source in page.sources:
        with Image.open(photos / "maps" / unquote(source)) as sheet:
            assert sheet.size == (GAP + 4 * (TILE + GAP), GAP + TILE // 2 + LINE + GAP)  # photo and three words
    text = (photos / "maps" / "index.html").read_text()
    assert "red and green" in text
    assert "b/x.jpg" in text


def test_the_maps_are_bright_at_high_attention(xmodal: Run, toy: Toy, photos: Path) -> None:
    xmodal("caption", "a/x.png", "--attention", "maps")
    sheet = np.asarray(Image.open(photos / "maps" / "x-attention.png").convert("RGB")).astype(int)

    def quarter(tile: int, right: bool, low: bool) -> int:
        left = GAP + tile * (TILE + GAP) + (TILE // 2 if right else 0)
        top = GAP + (TILE // 4 if low else 0)
        return int(sheet[top + 8 : top + TILE // 4 - 8, left + 20 : left + TILE // 2 - 20].sum(-1).mean())

    assert quarter(0, False, False) == quarter(0, True, True) == 765  # the photo itself
    first = {(r, low): quarter(1, r, low) for r in (False, True) for low in (False, True)}
    assert max(first, key=first.__getitem__) == (False, False)
    assert first[True, True] < 0.5 * first[False, False]
    last = {(r, low): quarter(3, r, low) for r in (False, True) for low in (False, True)}
    assert max(last, key=last.__getitem__) == (True, False)


def test_square_maps_of_an_image_and_its_mirror_image() -> None:
    weights = np.array([[1.0, 0, 0, 0, 0, 3, 0, 0]])  # upper left; in the mirror image, upper right
    assert square_maps(weights, 2).tolist() == [[[1, 0], [0, 0]]]
    assert square_maps(weights[:, :4], 1).tolist() == [[[1, 0], [0, 0]]]
    assert square_maps(np.zeros((1, 4)), 1).tolist() == [[[0, 0], [0, 0]]]
    assert [is_square(*size) for size in ((81, 1), (162, 2), (80, 1), (81, 2))] == [True, True, False, False]


def test_extreme_aspect_ratios() -> None:
    for size in ((1, 1), (3000, 2), (2, 3000)):
        sheet = draw_maps(Image.new("RGB", size), ["word"] * 12, np.ones((12, 3, 3), np.float32))
        assert sheet.width > TILE // 2


def test_two_views(xmodal: Run, toy: Toy, photos: Path) -> None:
    toy.crops = 2
    assert xmodal("caption", "a", "--attention", "maps").code == 0
    assert (photos / "maps" / "x-attention.png").is_file()


def test_the_boxes_of_regions_are_drawn(xmodal: Run, toy: Toy, photos: Path) -> None:
    """The first word attends to the upper left quarter, the second to all regions, the third to the upper right one."""
    toy.kind = "regions"
    outcome = xmodal("caption", "a/x.png", "--attention", "maps")
    assert outcome.code == 0, outcome.err
    sheet = np.asarray(Image.open(photos / "maps" / "x-attention.png").convert("RGB")).astype(int)

    def quarter(tile: int, right: bool, low: bool) -> int:
        left = GAP + tile * (TILE + GAP) + (TILE // 2 if right else 0)
        top = GAP + (TILE // 4 if low else 0)
        return int(sheet[top + 22 : top + TILE // 4 - 4, left + 40 : left + TILE // 2 - 6].sum(-1).mean())

    assert quarter(0, False, False) == 765
    first = {(r, low): quarter(1, r, low) for r in (False, True) for low in (False, True)}
    assert first.pop((False, False)) > 3 * max(first.values())
    last = {(r, low): quarter(3, r, low) for r in (False, True) for low in (False, True)}
    assert last.pop((True, False)) > 3 * max(last.values())
    assert "outlined" in (photos / "maps" / "index.html").read_text()


def test_different_regions_have_no_common_maps(xmodal: Run, toy: Toy, photos: Path) -> None:
    toy.kind = "regions"
    outcome = xmodal("caption", "a", "--attention", "maps", "--model", "one", "--model", "other")
    assert (outcome.code, outcome.out) == (1, "")
    assert "error: one + other attend to different parts" in outcome.err
    assert xmodal("caption", "a", "--attention", "maps", "--model", "one", "--model", "two").code == 0


def test_models_without_attention_maps(xmodal: Run, toy: Toy, photos: Path) -> None:
    toy.attends = False
    outcome = xmodal("caption", "a", "--attention", "maps", "--model", "no-maps")
    assert (outcome.code, outcome.out) == (1, "")
    assert "error: no-maps does not return attention" in outcome.err
    assert not (photos / "maps").exists()
    toy.attends, toy.crops = True, 10
    toy.backbones.clear()
    outcome = xmodal("caption", "a", "--attention", "maps")
    assert "does not attend to a grid of image cells" in outcome.err


def test_an_existing_page_is_overwritten_only_with_force(xmodal: Run, toy: Toy, photos: Path) -> None:
    xmodal("caption", "a", "--attention", "maps")
    outcome = xmodal("caption", "b", "--attention", "maps")
    assert (outcome.code, outcome.out) == (1, "")
    assert "maps/index.html already exists" in outcome.err
    assert xmodal("caption", "b", "--attention", "maps", "--force").code == 0
    assert len(Images(photos / "maps" / "index.html").sources) == 2


def test_photos_in_the_output_folder_are_kept(xmodal: Run, toy: Toy, photos: Path) -> None:
    paint(photos / "a" / "x-attention.png", "green")
    before = {f: f.read_bytes() for f in (photos / "a").iterdir()}
    assert xmodal("caption", "a", "--attention", "a").code == 0
    assert {f: f.read_bytes() for f in before} == before
    assert (photos / "a" / "x-attention-2.png").is_file()


def test_a_folder_that_cannot_be_created(xmodal: Run, toy: Toy, photos: Path) -> None:
    (photos / "file").write_text("")
    outcome = xmodal("caption", "a", "--attention", "file/maps")
    assert (outcome.code, outcome.out) == (1, "")
    assert "file/maps: file is not a folder" in outcome.err


def test_no_page_without_captions(xmodal: Run, toy: Toy, photos: Path) -> None:
    (photos / "bad.jpg").write_text("text")
    assert xmodal("caption", "bad.jpg", "--attention", "maps").code == 1
    assert not (photos / "maps" / "index.html").exists()
    assert xmodal("caption", "a", "--attention", "maps").code == 0


def test_an_interrupted_run_writes_a_page(xmodal: Run, toy: Toy, photos: Path) -> None:
    for number in range(40):
        paint(photos / "many" / f"{number}.png", "white")
    toy.stop_after = 2  # the dummy image, and the first batch
    assert xmodal("caption", "many", "--attention", "maps").code == 130
    assert len(Images(photos / "maps" / "index.html").sources) == toy.batch_sizes[1]


def test_the_folder_is_checked_before_a_model_is_loaded(
    xmodal: Run, toy: Toy, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "file").touch()
    (photos / "maps").mkdir()
    (photos / "maps" / "index.html").touch()
    monkeypatch.setattr("xmodal_cli.inference.image_captioning.load_generator", lambda _: pytest.fail("loaded"))
    for folder, reason in (("file", "is not a folder"), ("maps", "already exists")):
        outcome = xmodal("caption", "a", "--attention", folder)
        assert outcome.code == 1
        assert reason in outcome.err
        assert "loading" not in outcome.err


def test_the_models_are_announced_before_they_are_loaded(xmodal: Run, toy: Toy, photos: Path) -> None:
    lines = xmodal("caption", "a").err.splitlines()
    assert [line.split()[0] for line in lines] == ["loading", "captions"]
