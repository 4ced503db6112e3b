"""``xmodal data`` from the command line: list, info, add, make shapes, get without a network."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xmodal_cli.data import download
from xmodal_cli.data.shapes import make_shapes
from xmodal_cli.data.sources import SOURCES
from xmodal_cli.recipes import data as recipe

Xmodal = Callable[..., Any]


@pytest.fixture
def captioned(tmp_path: Path) -> Path:
    """Five images in JSON Lines: two of different sizes, one with EXIF rotation, a text file and a missing file."""
    folder = tmp_path / "mine"
    folder.mkdir()
    Image.new("RGB", (40, 30)).save(folder / "a.jpg")
    Image.new("RGB", (20, 20)).save(folder / "b.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 40)).save(folder / "c.jpg", exif=exif)
    (folder / "d.jpg").write_text("not an image")
    entries = [
        {"image": "a.jpg", "captions": ["a dog runs", "a brown dog runs fast"], "split": "train"},
        {"image": "b.png", "captions": ["two cats"], "split": "train"},
        {"image": "c.jpg", "captions": ["a cat on a mat"], "split": "val"},
        {"image": "d.jpg", "captions": ["a house"], "split": "test"},
        {"image": "gone.jpg", "captions": [], "split": "test"},
    ]
    (folder / "captions.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return folder


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No network and no retry delay; the list of requested URLs."""
    requested: list[str] = []

    def refuse(request: urllib.request.Request, timeout: float = 0) -> object:
        requested.append(request.full_url)
        raise urllib.error.URLError(socket.gaierror(-2, "Name or service not known"))

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(download, "RETRY_DELAY", 0)
    return requested


@pytest.fixture
def few_shapes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(recipe, "make_shapes", lambda out, seed: make_shapes(out, seed, 4, 2, 2))
    yield


# ---------------------------------------------------------------------------- list


def test_list_has_registered_and_public_datasets(xmodal: Xmodal, captioned: Path) -> None:
    assert xmodal("data", "add", "mine", captioned).code == 0
    entries = {entry["name"]: entry for entry in xmodal("data", "list", "--json").json}
    assert list(entries) == ["coco", "f30k", "f8k", "mine", "shapes"]
    assert {name: entry["state"] for name, entry in entries.items()} == {
        "coco": "to fetch", "f30k": "to fetch", "f8k": "to fetch", "mine": "present", "shapes": "built in",
    }  # fmt: skip
    assert entries["mine"]["path"] == str(captioned)
    table = xmodal("data", "list")
    assert table.code == 0
    for text in ("mine", str(captioned), "built in", SOURCES["f30k"].title):
        assert text in table.out


def test_list_shows_missing_datasets(xmodal: Xmodal, captioned: Path) -> None:
    xmodal("data", "add", "f8k", captioned)
    captioned.rename(captioned.with_name("moved"))
    (entry,) = (e for e in xmodal("data", "list", "--json").json if e["name"] == "f8k")
    assert (entry["state"], entry["path"]) == ("missing", str(captioned))
    assert "missing" in xmodal("data", "list").out


# ---------------------------------------------------------------------------- info


def test_info_as_json(xmodal: Xmodal, captioned: Path) -> None:
    outcome = xmodal("data", "info", captioned, "--json")
    assert outcome.code == 0
    facts = outcome.json
    bad, left_out = facts.pop("unreadable"), facts.pop("left_out")
    assert left_out["counts"] == {"not_an_image": 1, "missing": 1}
    assert facts == {
        "name": "mine",
        "format": "jsonl",
        "path": str(captioned),
        "images": 5,
        "captions": 5,
        "splits": {"train": 2, "val": 1, "test": 2},
        "missing_images": 1,
        "empty_captions": 0,
        "duplicate_captions": 0,
        "published_duplicates": 0,
        "skipped_rows": [],
        "notes": [],
        "captions_per_image": {"min": 0, "mean": 1.0, "max": 2},
        "words_per_caption": {"min": 2, "mean": 3.4, "max": 5},
        "image_sizes": [{"size": "40x30", "images": 2}, {"size": "20x20", "images": 1}],
        "distinct_sizes": 2,
        "precomputed": False,
        "features_from": None,
    }
    assert {Path(entry["path"]).name: entry["reason"].rsplit(": ")[-1] for entry in bad} == {
        "d.jpg": "it is not an image in a supported format",
        "gone.jpg": "the file does not exist",
    }


def test_info_and_add_count_what_is_left_out(xmodal: Xmodal, tmp_path: Path) -> None:
    (tmp_path / "captions.csv").write_text("image,caption\na.jpg,a dog\na.jpg,\na.jpg,a dog\nb.jpg\n")
    facts = xmodal("data", "info", tmp_path, "--json").json
    counts = [facts[key] for key in ("missing_images", "empty_captions", "duplicate_captions")]
    assert counts == [1, 1, 1]
    assert facts["skipped_rows"] == [{"where": f"{tmp_path / 'captions.csv'}, line 5", "reason": "has 1 of 2 columns"}]
    assert facts["captions_per_image"]["max"] == 1
    lines = [
        "missing images       1",
        "empty captions       1 (left out)",
        "repeated captions    1 (left out)",
        "skipped rows         1",
        f"  {tmp_path / 'captions.csv'}, line 5 has 1 of 2 columns",
    ]
    for outcome in (xmodal("data", "info", tmp_path), xmodal("data", "add", "mine", tmp_path)):
        assert [line for line in outcome.out.splitlines() if line in lines] == lines


def test_info_as_a_table(xmodal: Xmodal, captioned: Path) -> None:
    outcome = xmodal("data", "info", captioned)
    assert outcome.code == 0
    for line in (
        f"mine: {captioned} (jsonl)",
        "images               5 (train 2, val 1, test 2)",
        "captions             5",
        "captions per image   0 to 2, mean 1.0",
        "image sizes          40x30 (2), 20x20 (1)",
        "unreadable images    2",
        f"  {captioned / 'gone.jpg'} cannot be opened: the file does not exist",
    ):
        assert line in outcome.out.splitlines()


def test_info_counts_files_that_are_left_out_and_strict_finds_truncated_images(
    xmodal: Xmodal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "a.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-200])
    (tmp_path / "b.CR2").write_bytes(b"II*\0\x10\0\0\0CR\2\0")
    (tmp_path / "c.svg").write_text("<svg/>")
    (tmp_path / "d.jxl").write_bytes(b"\xff\x0a" + bytes(20))
    found = xmodal("data", "info", tmp_path, "--json").json
    assert (found["images"], found["left_out"]["counts"]) == (5, {"raw": 1, "jxl": 1, "svg": 1})
    outcome = xmodal("data", "info", tmp_path, "--strict")
    assert "left out: 4 files (1 camera RAW, 1 JPEG XL without pillow-jxl-plugin, 1 SVG, 1 damaged)" in outcome.out


def test_info_names_a_few_unreadable_images_and_counts_the_rest(xmodal: Xmodal, tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"{number}\x1b[31m.jpg").write_bytes(b"")
    lines = xmodal("data", "info", tmp_path).out.splitlines()
    start = lines.index("unreadable images    12")
    assert lines[start + 1] == "left out: 12 files (12 empty)"
    assert lines[start + 12] == "  and 2 more (use --json to list all)"
    assert all("0 bytes" in line and "\x1b" not in line for line in lines[start + 2 : start + 12])
    assert "image sizes          no readable images" in lines
    assert len(xmodal("data", "info", tmp_path, "--json").json["unreadable"]) == 12


def test_info_of_another_format(xmodal: Xmodal, captioned: Path) -> None:
    facts = xmodal("data", "info", captioned, "--format", "folder", "--json").json
    assert (facts["format"], facts["splits"], facts["captions"]) == ("folder", {"all": 4}, 0)
    assert facts["words_per_caption"] == {"min": 0, "mean": 0.0, "max": 0}


def test_info_of_precomputed_features(xmodal: Xmodal, tmp_path: Path) -> None:
    import numpy as np

    np.save(tmp_path / "train_ims.npy", np.eye(2, 8, dtype=np.float32))
    (tmp_path / "train_caps.txt").write_text("a dog\nthe dog\na cat\nthe cat\n")
    assert "the dataset has precomputed features" in xmodal("data", "info", tmp_path).out
    facts = xmodal("data", "info", tmp_path, "--json").json
    assert (facts["precomputed"], facts["images"], facts["unreadable"]) == (True, 2, [])


@pytest.mark.parametrize(
    ("what", "message", "hint"),
    [
        ("no/such/folder", "there is no dataset at no/such/folder", "data list"),
        ("shape", "there is no dataset called 'shape'", "did you mean 'shapes'?"),
        ("f8k", "the dataset f8k is not on this machine", "xmodal data get f8k"),
    ],
)
def test_info_of_a_missing_dataset(xmodal: Xmodal, what: str, message: str, hint: str) -> None:
    outcome = xmodal("data", "info", what, "--json")
    assert (outcome.code, outcome.out) == (1, "")
    error, suggestion = outcome.err.splitlines()
    assert error == f"error: {message}"
    assert suggestion.startswith("hint: ")
    assert hint in suggestion


@pytest.mark.realdata
def test_info_of_the_real_flickr8k(xmodal: Xmodal, real_data: Path) -> None:
    facts = xmodal("data", "info", real_data / "f8k", "--json").json
    assert facts["splits"] == {"train": 6000, "val": 1000, "test": 1000}
    assert facts["captions_per_image"] == {"min": 5, "mean": 5.0, "max": 5}
    assert facts["image_sizes"] == [{"size": "224x224", "images": 8000}]
    assert facts["unreadable"] == []


# ---------------------------------------------------------------------------- add


def test_added_datasets_are_found_by_name(xmodal: Xmodal, captioned: Path) -> None:
    added = xmodal("data", "add", "pets", captioned, "--json")
    assert added.code == 0
    assert added.json == {
        "name": "pets",
        "format": "jsonl",
        "path": str(captioned),
        "images": 5,
        "captions": 5,
        "splits": {"train": 2, "val": 1, "test": 2},
        "missing_images": 1,
        "empty_captions": 0,
        "duplicate_captions": 0,
        "published_duplicates": 0,
        "skipped_rows": [],
        "notes": [],
    }
    assert xmodal("data", "info", "pets", "--json").json["name"] == "pets"
    assert "pets" in xmodal("data", "add", "pets", captioned).out


def test_unreadable_datasets_are_not_added(xmodal: Xmodal, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.doc").write_text("words")
    (tmp_path / "bad.jsonl").write_text('{"image": "a.jpg"\n')
    for path, message in (
        ("notes", "contains no images or captions, only .doc"),
        ("bad.jsonl", "line 1 is not valid JSON"),
        ("none", "there is no dataset at"),
    ):
        outcome = xmodal("data", "add", "mine", tmp_path / path)
        assert (outcome.code, outcome.out) == (1, "")
        assert message in outcome.err.splitlines()[0]
        assert outcome.err.splitlines()[1].startswith("hint: ")
    assert "mine" not in [entry["name"] for entry in xmodal("data", "list", "--json").json]


# ---------------------------------------------------------------------------- make


def test_make_shapes(xmodal: Xmodal, few_shapes: None, tmp_path: Path) -> None:
    outcome = xmodal("data", "make", "shapes", tmp_path / "sample", "--seed", 7, "--json")
    assert outcome.code == 0
    assert (outcome.json["images"], outcome.json["captions"]) == (8, 40)
    assert outcome.json["splits"] == {"train": 4, "val": 2, "test": 2}
    make_shapes(tmp_path / "same", 7, 4, 2, 2)
    assert (tmp_path / "sample/shapes.jsonl").read_bytes() == (tmp_path / "same/shapes.jsonl").read_bytes()
    again = xmodal("data", "make", "shapes", tmp_path / "sample")
    assert (again.code, again.out) == (1, "")
    assert "already exists and is not an empty folder" in again.err
    assert xmodal("data", "info", tmp_path / "sample", "--json").json["unreadable"] == []


# ---------------------------------------------------------------------------- get


@pytest.mark.parametrize("name", SOURCES)
def test_offline_the_hint_lists_all_files_and_paths(xmodal: Xmodal, offline: list[str], home: Path, name: str) -> None:
    outcome = xmodal("data", "get", name, "--json")
    assert (outcome.code, outcome.out) == (1, "")
    error, hint = outcome.err.splitlines()[-2:]
    first = SOURCES[name].files[0]
    assert error == f"error: {first.url} cannot be fetched: [Errno -2] Name or service not known"
    assert offline == [first.url]
    for remote in SOURCES[name].files:
        assert f"{remote.url} as {home / 'data' / name / remote.name}" in hint
    assert SOURCES[name].manual_download in hint
    assert name not in [entry["name"] for entry in xmodal("data", "list", "--json").json if entry["state"] == "present"]


def test_offline_with_out(xmodal: Xmodal, offline: list[str], tmp_path: Path) -> None:
    outcome = xmodal("data", "get", "coco", "--out", tmp_path / "coco")
    assert outcome.code == 1
    for remote in SOURCES["coco"].files:
        assert f"as {tmp_path / 'coco' / remote.name}" in outcome.err


def test_manually_downloaded_files_need_no_network(xmodal: Xmodal, offline: list[str], tmp_path: Path) -> None:
    """Flickr30k: the captions are unpacked, the images are requested by form and copied to the folder."""
    photos = tmp_path / "f30k" / "flickr30k-images"
    photos.mkdir(parents=True)
    image = {"filename": "1.jpg", "split": "train", "sentences": [{"raw": "A dog."}]}
    (tmp_path / "f30k" / "dataset_flickr30k.json").write_text(json.dumps({"images": [image]}))
    without = xmodal("data", "get", "f30k", "--out", tmp_path / "f30k")
    assert without.code == 1
    assert "the captions of f30k are in" in without.err
    assert "request the photos with the form" in without.err
    Image.new("RGB", (8, 8)).save(photos / "1.jpg")
    assert xmodal("data", "get", "f30k", "--out", tmp_path / "f30k", "--json").json["images"] == 1
    assert xmodal("data", "info", "f30k", "--json").json["unreadable"] == []
    assert offline == []


@pytest.mark.parametrize(("wrong", "right"), [("f8", "f8k"), ("cocoo", "coco"), ("f30", "f30k")])
def test_get_of_an_unknown_name(xmodal: Xmodal, offline: list[str], wrong: str, right: str) -> None:
    outcome = xmodal("data", "get", wrong)
    assert (outcome.code, outcome.out) == (1, "")
    assert f"there is no public dataset called {wrong!r}" in outcome.err
    assert f"did you mean {right!r}?" in outcome.err
    assert offline == []


@pytest.mark.parametrize("command", [[], ["make"], ["list"], ["info"], ["get"], ["add"], ["make", "shapes"]])
def test_help(xmodal: Xmodal, command: list[str]) -> None:
    outcome = xmodal("data", *command, "--help")
    assert outcome.code == 0
    assert "Usage:" in outcome.out
