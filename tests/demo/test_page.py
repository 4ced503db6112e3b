"""The demo's page: complete in itself, well formed, and nothing in it that a file's name or a caption could break."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from xmodal_cli.demo.page import draw_page
from xmodal_cli.demo.results import Captioned, CaptionerPart, DemoResult, MatcherPart, OwnPhotos, SearchExample, Truth
from xmodal_cli.reports.svg_curves import Curve, chart
from xmodal_cli.types import Example

NASTY = "<b>\"&amp;'</b>"
VOID = ("meta", "img", "br", "line", "circle", "polyline")


@dataclass
class Page(HTMLParser):
    """Checks that tags close in order; keeps pictures, links, texts."""

    pictures: list[str] = field(default_factory=list)
    elements: list[str] = field(default_factory=list)
    linked: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        HTMLParser.__init__(self, convert_charrefs=True)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        found = dict(attributes)
        assert len(found) == len(attributes), f"<{tag}> says something twice"
        assert not [name for name in found if name.startswith("on")]
        if tag == "img":
            self.pictures.append(found["src"] or "")
            assert "alt" in found
        self.linked += [found[name] or "" for name in ("href", "src", "srcset", "data", "xlink:href") if name in found]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag in VOID
        self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read_page(content: bytes) -> Page:
    """The page, after checks that hold for every page of the demo."""
    html = content.decode("utf-8")
    page = Page()
    page.feed(html)
    page.close()
    assert not page.open
    assert not {"script", "link", "iframe", "object", "base"} & set(page.elements)
    assert all(link.startswith("data:image/jpeg;base64,") for link in page.linked)
    assert "@import" not in html
    assert "url(" not in html
    for source in page.pictures:
        with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2], validate=True))) as picture:
            assert max(picture.size) <= 400
    for svg in re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL):
        ElementTree.fromstring(svg)
    return page


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    file = tmp_path / f"{NASTY.replace('/', '')}.png"
    exif = Image.Exif()
    exif[0x010E] = "where I live"
    Image.new("RGB", (900, 300), "teal").save(file, exif=exif)
    return file


def log_of(folder: Path, score: str) -> Path:
    lines = [{"event": "step", "step": n, "epoch": 0, "loss": 3.0 / n} for n in (1, 2, 3)]
    lines += [{"event": "step", "step": 4, "epoch": 0, "loss": None}]
    lines += [{"event": "eval", "step": 4, "epoch": n, score: 10.0 * n} for n in (1, 2)]
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def a_result(folder: Path, photo: Path, **changes: Any) -> DemoResult:
    recalls = {"R@1": 71.4, "R@5": 90.0, "R@10": 95.0}
    test = {"images": 150, "captions": 750, "image_to_text": recalls, "text_to_image": recalls, "rsum": 500.0}
    hits = [{"rank": 1, "path": "/gone/x.png", "score": 0.5}, {"rank": 2, "path": str(photo), "score": 0.4}]
    search = SearchExample(NASTY, hits, photo)
    told = Captioned(photo, NASTY, [NASTY, "end"], np.ones((2, 9, 9), np.float32), True)
    matcher = MatcherPart(log_of(folder / "m", "image_to_text R@1"), test, {"folder": "i"}, [search])
    figures = {"images": 150, "bleu_4": 0.4, "cider": 1.9}
    captioner = CaptionerPart(log_of(folder / "c", "cider"), figures, Truth(139, 150, [NASTY] * 11), [told])
    own = OwnPhotos(
        photo.parent,
        9,
        {"items": 3, "model": "m", "index": "demo-x"},
        "c",
        [SearchExample("a dog", hits)],
        [told],
        [NASTY],
    )
    parts = {"matcher": matcher, "captioner": captioner, "photos": own, "seconds": {NASTY: 61.04}}
    return DemoResult(**{**parts, "next_commands": [NASTY], "picture": photo, "page": photo, **changes})


def test_it_is_one_file_that_shows_everything(tmp_path: Path, photo: Path) -> None:
    sample = Example("1", photo, ("A sample sentence.",), "test")
    page = read_page(draw_page(a_result(tmp_path, photo), [sample]))
    # sample, searched twice (its first photo is gone), captioned twice with two words each
    assert len(page.pictures) == 1 + 2 + 2 * (1 + 2)
    assert page.text.count("x.png") == 2
    assert page.elements.count("svg") == 4
    assert page.elements.count("b") == 4  # of the charts' titles: none came from a name or a caption
    assert NASTY in page.text
    for shown in ("71.4", "139", "93%", "11 that are not true", "number 2", "3 of the 9 photos", "61.0"):
        assert shown in page.text, shown


def test_without_photos_truth_or_attention(tmp_path: Path, photo: Path) -> None:
    whole = a_result(tmp_path, photo)
    plain = CaptionerPart(whole.captioner.run, whole.captioner.test, None, [Captioned(photo, "a word", ["a", "word"])])
    page = read_page(draw_page(a_result(tmp_path / "again", photo, captioner=plain, photos=None), []))
    assert "true" not in page.text
    assert "Your photos" not in page.text
    assert len(page.pictures) == 1 + 1


def test_pictures_tell_nothing_of_the_camera(tmp_path: Path, photo: Path) -> None:
    page = read_page(draw_page(a_result(tmp_path, photo), []))
    for source in page.pictures:
        content = base64.b64decode(source.partition(",")[2])
        assert b"where I live" not in content
        with Image.open(io.BytesIO(content)) as picture:
            assert not picture.getexif()


def test_names_that_are_no_text(tmp_path: Path, photo: Path) -> None:
    hits = [{"rank": 1, "path": "/gone/\udcff.png", "score": 0.5}]
    whole = a_result(tmp_path, photo)
    own = OwnPhotos(Path("/\udcfe"), 1, {"items": 1, "model": "m", "index": "x"}, "c", [SearchExample("a", hits)], [])
    page = read_page(draw_page(a_result(tmp_path / "again", photo, matcher=whole.matcher, photos=own), []))
    assert r"\udcff.png" in page.text
    assert r"\udcfe" in page.text


# ---------------------------------------------------------------------------- curves


def test_curves_end_where_their_values_say() -> None:
    figure = chart(
        "up & down", "epoch", [Curve("a", [(1, 0.0), (3, 50.0)]), Curve("b", [(1, 100.0), (2, 25.0)])], top=100
    )
    svg = ElementTree.fromstring(figure[figure.index("<svg") : figure.index("</figure>")])
    lines = [[tuple(map(float, p.split(","))) for p in line.attrib["points"].split()] for line in svg.iter("polyline")]
    ((left, bottom), (right, middle)), ((_, top), (between, quarter)) = lines
    assert middle == pytest.approx((bottom + top) / 2)
    assert quarter == pytest.approx(bottom + (top - bottom) / 4)
    assert between == pytest.approx((left + right) / 2)
    assert top < bottom  # up is up
    assert "up &amp; down" in figure


@pytest.mark.parametrize(("largest", "top"), [(0.31, 0.4), (4.2, 6), (10.0, 10), (88.0, 100), (0.0, 1)])
def test_the_scale_holds_the_largest_value(largest: float, top: float) -> None:
    figure = chart("t", "x", [Curve("a", [(0, largest), (1, 0.0)])])
    ticks = [float(text) for text in re.findall(r'x="36" y="[\d.]+" text-anchor="end">([\d.]+)</text>', figure)]
    assert max(ticks) == pytest.approx(top)


def test_values_that_are_none_are_no_curve() -> None:
    assert chart("t", "x", [Curve("a", [(0, math.nan), (1, math.inf)]), Curve("b", [])]) == ""
    assert chart("t", "x", [Curve("a", [(2, 1.0)])])  # one point is drawn
