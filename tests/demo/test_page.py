"""The page of the demo: one well-formed file with all results; file names and captions are escaped."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.html_pages import NASTY, SHOWN, Page, read_page
from PIL import Image

from xmodal_cli.demo.page import draw_page
from xmodal_cli.demo.results import Captioned, CaptionerPart, DemoResult, MatcherPart, OwnPhotos, SearchExample, Truth
from xmodal_cli.evaluation.caption_scores import CaptionResult
from xmodal_cli.evaluation.scoring import RetrievalResult
from xmodal_cli.recipes.index import IndexReport
from xmodal_cli.retrieval.search_result import Hit
from xmodal_cli.types import Example


def read_demo_page(content: bytes) -> Page:
    """The page, checked; all of its images are in it."""
    page = read_page(content)
    assert all(link.startswith("data:image/jpeg;base64,") for link in page.linked)
    for content in image_files(page):
        with Image.open(io.BytesIO(content)) as image:
            assert max(image.size) <= 400
    return page


def image_files(page: Page) -> list[bytes]:
    return [base64.b64decode((image["src"] or "").partition(",")[2], validate=True) for image in page.images]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    file = tmp_path / f"{NASTY.replace('/', '').replace(chr(0), '')}.png"
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


def index_report(name: str) -> IndexReport:
    known = {"index": name, "folder": f"/indexes/{name}", "model": "m", "items": 3}
    return IndexReport(**{**dict.fromkeys(field.name for field in fields(IndexReport)), **known})


def a_result(folder: Path, photo: Path, **changes: Any) -> DemoResult:
    recalls = {"R@1": 71.4, "R@5": 90.0, "R@10": 95.0}
    sides = {"image_to_text": recalls, "text_to_image": recalls}
    test = RetrievalResult(images=150, captions=750, protocol="150", **sides, rsum=500.0)
    hits = [Hit(1, "/gone/x.png", 0.5), Hit(2, str(photo), 0.4)]
    search = SearchExample(NASTY, hits, photo)
    captioned = Captioned(photo, NASTY, [NASTY, "end"], np.ones((2, 9, 9), np.float32), True)
    matcher = MatcherPart(log_of(folder / "m", "image_to_text R@1"), test, index_report("i"), [search])
    metrics = {"bleu_4": 0.4, "cider": 1.9}
    scores = CaptionResult(images=150, scores=metrics, signature="", unavailable={})
    captioner = CaptionerPart(log_of(folder / "c", "cider"), scores, Truth(139, 150, [NASTY] * 11), [captioned])
    own = OwnPhotos(
        photo.parent,
        9,
        index_report("demo-x"),
        "c",
        [SearchExample("a dog", hits)],
        [captioned],
        [NASTY],
    )
    parts = {"matcher": matcher, "captioner": captioner, "photos": own, "seconds": {NASTY: 61.04}}
    return DemoResult(**{**parts, "next_commands": [NASTY], "contact_sheet": photo, "page": photo, **changes})


def test_it_is_one_file_that_shows_everything(tmp_path: Path, photo: Path) -> None:
    sample = Example("1", photo, ("A sample sentence.",), "test")
    page = read_demo_page(draw_page(a_result(tmp_path, photo), [sample]))
    # a sample, two searches (the file of the first hit is missing), two captions with two words each
    assert len(page.images) == 1 + 2 + 2 * (1 + 2)
    assert page.text.count("x.png") == 2
    assert page.elements.count("svg") == 4
    assert SHOWN in page.text
    for shown in ("71.4", "139", "93%", "5 of 11", "correct image at rank 2", "3 of 9 photos", "61.0", "x.png", "1.90"):
        assert shown in page.text, shown


def test_without_photos_scenes_or_attention(tmp_path: Path, photo: Path) -> None:
    whole = a_result(tmp_path, photo)
    plain = CaptionerPart(whole.captioner.run, whole.captioner.test, None, [Captioned(photo, "a word", ["a", "word"])])
    page = read_demo_page(draw_page(a_result(tmp_path / "again", photo, captioner=plain, photos=None), []))
    for absent in ("correct captions", "Incorrect", "are correct", "Your photos"):
        assert absent not in page.text
    assert len(page.images) == 1 + 1


def test_images_have_no_camera_metadata(tmp_path: Path, photo: Path) -> None:
    page = read_demo_page(draw_page(a_result(tmp_path, photo), []))
    assert page.images
    for content in image_files(page):
        assert b"where I live" not in content
        with Image.open(io.BytesIO(content)) as image:
            assert not image.getexif()


def test_names_that_are_not_utf8(tmp_path: Path, photo: Path) -> None:
    hits = [Hit(1, "/gone/\udcff.png", 0.5)]
    whole = a_result(tmp_path, photo)
    own = OwnPhotos(Path("/\udcfe"), 1, index_report("x"), "c", [SearchExample("a", hits)], [])
    page = read_demo_page(draw_page(a_result(tmp_path / "again", photo, matcher=whole.matcher, photos=own), []))
    assert r"\udcff.png" in page.text
    assert r"\udcfe" in page.text
