"""The dataset browser over HTTP: pages and JSON, images by name and position, errors, foreign text."""

from __future__ import annotations

import io
import json
import time
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from helpers.html_pages import Page
from helpers.served_datasets import DAMAGED, MARKED, MARKED_NAME, MARKUP, MISSING, NUM_IMAGES
from helpers.served_photos import NUM_PHOTOS, paint
from PIL import Image

from xmodal_cli.data import registry
from xmodal_cli.data.left_out import LABELS
from xmodal_cli.errors import Category
from xmodal_cli.serve import dataset_routes


@pytest.fixture(autouse=True)
def registered(served_datasets: Path) -> None:
    """All tests have the datasets."""


def get_page(client: Any, address: str, status: int = 200) -> str:
    response = client.get(address)
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("text/html")
    assert "<script" not in response.text and "style=" not in response.text
    checked = Page()  # tags are closed, and images have an alternative text
    checked.feed(response.text)
    checked.close()
    assert not checked.open and all(address.startswith("/") for address in checked.linked)
    text: str = response.text
    return text


def test_the_list_has_the_counts_of_the_command(client, xmodal):
    found = {one["name"]: one for one in client.get("/api/datasets").json()["datasets"]}
    listed = {one["name"]: one for one in xmodal("data", "list", "--json").json}
    assert list(found) == list(listed)
    info = xmodal("data", "info", "tricky", "--json").json
    for key in ("images", "captions", "splits", "format", "missing_images"):
        assert found["tricky"][key] == info[key]
    assert found["tricky"]["split_captions"] == {"train": 59, "val": 176}
    assert found["features"]["precomputed"] is True
    assert found["coco"] == listed["coco"]  # not on this machine
    page = get_page(client, "/datasets")
    assert all(f'href="/datasets/{name}"' in page for name in ("tricky", "features", "f8k"))
    assert "xmodal data get coco" in page and 'href="/datasets/coco"' not in page
    assert "<td>45</td><td>176</td>" in page and "1 missing image<" in page


def test_a_dataset_has_the_facts_of_the_command(client, xmodal):
    found = client.get("/api/datasets/tricky", params={"split": "val", "q": "DOG number 1"}).json()
    info = xmodal("data", "info", "tricky", "--json").json
    assert {key: found[key] for key in info if key in found} == {key: info[key] for key in info if key in found}
    assert {"empty_captions", "skipped_rows", "notes", "precomputed"} <= set(found)
    assert [e["position"] for e in found["entries"]] == [1, 10, 11, 13, 14, 15, 17, 18, 19]
    assert (found["found"], found["page"], found["pages"], found["checked"]) == (9, 1, 1, None)
    page = unescape(get_page(client, "/datasets/tricky"))
    lines = xmodal("data", "info", "tricky").out.splitlines()
    for label in ("missing images", "empty captions", "repeated captions"):
        count = next(line.removeprefix(label).strip() for line in lines if line.startswith(label))
        assert f"<dt>{label}</dt><dd>{count}</dd>" in page
    assert "1 skipped row<" in page and found["skipped_rows"][0]["reason"] in page


def test_missing_and_unreadable_files_have_reasons(client):
    found = client.get("/api/datasets/tricky", params={"show": "missing"}).json()
    assert [e["position"] for e in found["entries"]] == [MISSING, DAMAGED]
    assert found["checked"] == {"files": NUM_IMAGES, "done": NUM_IMAGES, "counts": {"not_an_image": 1, "missing": 1}}
    page = get_page(client, "/datasets/tricky?show=missing")
    assert (
        f"All 60 files were checked: 1 {LABELS[Category.NOT_AN_IMAGE]}, 1 missing." in page and "does not exist" in page
    )
    assert page.count('class="photo problem"') == 2 and "<img" not in page


def test_a_check_of_many_files_is_continued(client, monkeypatch):
    monkeypatch.setattr("xmodal_cli.serve.file_check._CHUNK", 20)
    monkeypatch.setattr("xmodal_cli.serve.dataset_service.CHECK_SECONDS", 0)
    for done in ("20 of 60", "40 of 60"):
        page = get_page(client, "/datasets/tricky?show=missing")
        assert f"{done} files were checked" in page and '<a href="/datasets/tricky?show=missing">Check further' in page
    assert "All 60 files were checked" in get_page(client, "/datasets/tricky?show=missing")


def test_pages_are_linked_with_the_search(client):
    page = get_page(client, "/datasets/tricky?q=dog+number&page=2")
    assert "58 images, page 2 of 2." in page  # all but two have other captions
    assert 'href="/datasets/tricky?q=dog+number" rel="prev"' in page and 'aria-disabled="true">Next' in page
    assert "a <mark>Dog</mark> <mark>number</mark> 59" in page
    assert 'value="dog number"' in page
    assert 'href="/datasets/tricky?split=val&amp;q=dog+number"' in page


def test_markup_in_captions_and_names_is_text(client):
    page = get_page(client, "/datasets/tricky?q=number")
    assert "<b>" not in page and MARKUP in unescape(page) and MARKED_NAME in unescape(page)
    hostile = '"><script>alert(1)</script>'
    for address in (f"/datasets/tricky?q={quote(hostile)}", f"/datasets/tricky?split={quote(hostile)}"):
        response = client.get(address)
        assert "<script" not in response.text and "&lt;script&gt;" in response.text
    assert "<script" not in client.get(f"/datasets/{quote(hostile, safe='')}").text


@pytest.mark.parametrize(("kind", "size"), [("thumbnail", (160, 320)), ("view", (200, 400))])
def test_images_are_webp_files_of_bounded_size(client, served_datasets, kind, size):
    image = served_datasets / "tricky" / "images" / "09.jpg"
    before = image.read_bytes()
    paint(image, 9, (200, 400))
    try:
        entry = client.get("/api/datasets/tricky").json()["entries"][9]
        response = client.get(f"/api/datasets/tricky/images/9/{kind}", params={"v": entry["v"]})
        assert response.headers["content-type"] == "image/webp" and "immutable" in response.headers["cache-control"]
        with Image.open(io.BytesIO(response.content)) as opened:
            assert (opened.format, opened.size) == ("WEBP", size)
        for version in ("", "0" * 12):
            other = client.get(f"/api/datasets/tricky/images/9/{kind}", params={"v": version})
            assert other.content == response.content and other.headers["cache-control"] == "no-cache"
    finally:
        image.write_bytes(before)
    assert client.get(f"/api/datasets/tricky/images/9/{kind}").content != response.content


def test_the_page_of_an_image(client):
    page = unescape(get_page(client, f"/datasets/tricky/images/{MARKED}"))
    assert MARKUP in page and MARKED_NAME in page and "60 \u00d7 40" in page
    assert all(f'href="/datasets/tricky/images/{position}"' in page for position in (MARKED - 1, MARKED + 1))
    last = get_page(client, f"/datasets/tricky/images/{NUM_IMAGES - 1}")
    assert 'aria-disabled="true">Next' in last
    assert "does not exist" in get_page(client, f"/datasets/tricky/images/{MISSING}")
    features = get_page(client, "/datasets/features/images/0")
    assert "<img" not in features and "caption 4 of a dog" in features


def test_the_image_with_markup_in_its_name(client):
    entry = client.get("/api/datasets/tricky").json()["entries"][MARKED]
    assert entry["path"].endswith(MARKED_NAME)
    assert client.get(f"/api/datasets/tricky/images/{MARKED}/thumbnail").status_code == 200


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/api/datasets/nothing", 404, "nothing"),
        ("/api/datasets/..", 404, "Not Found"),
        ("/api/datasets/%2e%2e", 404, ""),
        ("/api/datasets/..%2ftrip", 404, "Not Found"),
        ("/api/datasets/%2fetc", 404, "Not Found"),
        ("/api/datasets/trip", 404, "trip"),  # a folder in the working folder
        ("/api/datasets/~", 404, "~"),
        ("/api/datasets/a%00b", 404, "dataset"),
        ("/api/datasets/coco", 404, "not on this machine"),
        ("/api/datasets/shapes", 404, "not generated"),
        ("/api/datasets/tricky?split=tset", 404, "tset"),
        ("/api/datasets/tricky?show=everything", 404, "everything"),
        ("/api/datasets/tricky?page=0", 400, "page=0"),
        ("/api/datasets/tricky?page=3", 404, "no page 3"),
        ("/api/datasets/tricky?q=" + "a" * 201, 400, "201"),
        ("/api/datasets/tricky/images/60/thumbnail", 404, "no image 60"),
        ("/api/datasets/tricky/images/-1/thumbnail", 404, "Not Found"),
        ("/api/datasets/tricky/images/" + "9" * 5000 + "/view", 404, "Not Found"),
        ("/api/datasets/tricky/images/images%2f00.jpg/thumbnail", 404, "Not Found"),
        ("/api/datasets/tricky/images/1/file", 404, "file"),
        ("/api/datasets/tricky/images/1/passwd", 404, "passwd"),
        (f"/api/datasets/tricky/images/{MISSING}/view", 404, "does not exist"),
        (f"/api/datasets/tricky/images/{DAMAGED}/view", 400, "not an image"),
        ("/api/datasets/features/images/0/view", 404, "no image files"),
        ("/api/datasets/..%2f..%2fetc/images/0/view", 404, "Not Found"),
    ],
)
def test_errors_are_problem_json(client, served_home, monkeypatch, path, status, text):
    monkeypatch.chdir(served_home)
    response = client.get(path)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert text in response.json()["title"] and response.json()["status"] == status


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/datasets/nothing", 404, "there is no dataset called"),
        ("/datasets/trip", 404, "there is no dataset called"),
        ("/datasets/coco", 404, "xmodal data get coco"),
        ("/datasets/tricky?split=tset", 404, "known: train, val"),
        ("/datasets/tricky?page=x", 400, "page=x"),
        ("/datasets/tricky/images/60", 404, "has no image 60"),
    ],
)
def test_errors_of_pages_are_pages(client, served_home, monkeypatch, path, status, text):
    monkeypatch.chdir(served_home)
    assert text in unescape(get_page(client, path, status))


def test_a_dataset_that_takes_long_to_read(client, monkeypatch):
    monkeypatch.setattr(dataset_routes, "READING_SECONDS", 0.05)
    load = registry.load_dataset

    def load_slowly(name: str) -> object:
        time.sleep(0.3)
        return load(name)

    monkeypatch.setattr(registry, "load_dataset", load_slowly)
    response = client.get("/datasets/tricky")
    assert response.status_code == 202 and response.headers["refresh"] == "2" and "Reading tricky" in response.text
    page = client.get("/datasets")
    assert "Reading …" in page.text and page.headers["refresh"] == "2"
    assert client.get("/api/datasets/tricky").status_code == 200  # programs wait
    monkeypatch.setattr(dataset_routes, "READING_SECONDS", 30)
    assert client.get("/api/datasets").status_code == 200
    page = client.get("/datasets")
    assert "Reading …" not in page.text and "refresh" not in page.headers
    assert "refresh" not in client.get("/datasets/tricky").headers


def test_captions_of_precomputed_features(client):
    page = get_page(client, "/datasets/features?q=7")
    assert "precomputed features" in page and "<img" not in page and "caption <mark>7</mark> of a dog" in page
    assert "Missing or unreadable" not in page


def test_a_folder_of_photos_has_no_search_in_captions(client):
    page = get_page(client, "/datasets/f8k")
    assert page.count("<img") == NUM_PHOTOS and "<form" not in page and "no captions" in page


def test_without_datasets(client, home, monkeypatch):
    monkeypatch.setenv("XMODAL_HOME", str(home))
    page = get_page(client, "/datasets")
    assert "No dataset is registered" in page and "xmodal data add NAME PATH" in page


def test_a_damaged_registry(client, home, monkeypatch):
    monkeypatch.setenv("XMODAL_HOME", str(home))
    (home / "data").mkdir()
    (home / "data" / "registry.json").write_text("no JSON")
    assert "registry.json cannot be read" in get_page(client, "/datasets", 400)
    assert client.get("/api/datasets").status_code == 400


def test_names_of_the_registry_file_are_text(client, home, monkeypatch, served_datasets):
    monkeypatch.setenv("XMODAL_HOME", str(home))
    (home / "data").mkdir()
    entry = {"path": str(served_datasets / "features")}
    (home / "data" / "registry.json").write_text(json.dumps({"<script>x</script>": entry}))
    page = get_page(client, "/datasets")
    assert "&lt;script&gt;" in page and 'href="/datasets/%3Cscript%3Ex%3C%2Fscript%3E"' in page
