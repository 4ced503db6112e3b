"""The HTTP API: the same results as the command, errors as problem JSON, photos only by key."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.served_photos import NUM_PHOTOS, paint
from PIL import Image
from starlette.testclient import TestClient

from xmodal_cli.__main__ import main
from xmodal_cli.errors import ConfigError
from xmodal_cli.inference import image_captioning
from xmodal_cli.inference.caption_types import Caption, CaptionGenerator
from xmodal_cli.serve import api
from xmodal_cli.serve.application import create_app
from xmodal_cli.serve.caption_service import CaptionService
from xmodal_cli.serve.settings import ServeSettings


def hits(response) -> list[dict]:
    assert response.status_code == 200, response.text
    return response.json()["hits"]


def key_of(client, name: str) -> int:
    return next(hit["id"] for hit in hits(client.get("/api/search")) if Path(hit["path"]).name == name)


@pytest.mark.parametrize("words", [["a red sky"], ["two dogs", "+snow", "-grass"], ["beach^0.5"]])
def test_a_search_has_the_results_of_the_command(client, xmodal, words):
    expected = xmodal("search", "--json", "-k", "5", "--index", "trip", "--", *words).json
    found = client.get("/api/search", params={"q": " ".join(f'"{w}"' if " " in w else w for w in words), "k": 5}).json()
    assert [hit["path"] for hit in found["hits"]] == [hit["path"] for hit in expected["hits"]]
    np.testing.assert_allclose([h["score"] for h in found["hits"]], [h["score"] for h in expected["hits"]], atol=1e-4)
    assert found["model"] == "starter" and found["items"] == NUM_PHOTOS


def test_pages_of_hits_are_the_whole_list(client):
    whole = hits(client.get("/api/search", params={"q": "dogs", "k": 8}))
    parts = [hits(client.get("/api/search", params={"q": "dogs", "k": 3, "offset": n})) for n in (0, 3, 6)]
    assert [hit["id"] for part in parts for hit in part] == [hit["id"] for hit in whole]
    assert [hit["rank"] for part in parts for hit in part] == list(range(1, 9))


def test_without_a_query_all_photos_are_listed_in_pages(client):
    whole = hits(client.get("/api/search"))
    assert len(whole) == NUM_PHOTOS
    parts = [hits(client.get("/api/search", params={"k": 3, "offset": n})) for n in (0, 3, 6)]
    assert [hit for part in parts for hit in part] == whole


def test_a_name_that_is_not_utf8_is_an_escape_as_in_the_command(client, photos, xmodal):
    name = b"caf\xe9.jpg"
    paint(photos / "named.jpg", 77).rename(photos / os.fsdecode(name))
    try:
        assert main(["index", str(photos)]) == 0
        response = client.get("/api/search", params={"q": "name:caf"})
        assert b"caf\\udce9.jpg" in response.content
        assert [os.fsencode(hit["path"]) for hit in hits(response)] == [os.fsencode(photos) + b"/" + name]
        (photos / os.fsdecode(name)).rename(photos / "moved.jpg")
        gone = client.get(f"/api/photos/{hits(response)[0]['id']}/file")
        assert gone.status_code == 404 and "caf" in gone.json()["title"]
    finally:
        (photos / "moved.jpg").unlink(missing_ok=True)
        assert main(["index", str(photos)]) == 0


def test_warnings_of_a_caption(client, photos):
    content = paint(photos / "cut.jpg", 78, (800, 600)).read_bytes()
    (photos / "cut.jpg").write_bytes(content[: len(content) * 9 // 10])
    try:
        assert main(["index", str(photos)]) == 0
        (warning,) = client.get("/api/caption", params={"id": key_of(client, "cut.jpg")}).json()["warnings"]
        assert "truncated" in warning
        assert client.get("/api/caption", params={"id": key_of(client, "1.jpg")}).json()["warnings"] == []
    finally:
        (photos / "cut.jpg").unlink()
        assert main(["index", str(photos)]) == 0


@pytest.mark.parametrize("as_form", [False, True])
def test_an_uploaded_photo_finds_itself(client, photos, as_form):
    content = (photos / "3.jpg").read_bytes()
    sent = {"files": {"photo": ("x.svg", content, "image/svg+xml")}} if as_form else {"content": content}
    best, *_ = hits(client.post("/api/search", params={"k": 1}, **sent))
    assert Path(best["path"]).name == "3.jpg" and best["score"] > 0.999


def test_similar_photos_and_photos_in_queries(client):
    key = key_of(client, "5.jpg")
    similar = hits(client.get("/api/similar", params={"id": key}))
    assert similar[0]["id"] == key
    assert hits(client.get("/api/similar", params={"id": key, "q": "dogs", "unlike": key})) == similar
    unlike = hits(client.get("/api/search", params={"unlike": key}))
    assert unlike[-1]["id"] == key
    both = hits(client.get("/api/search", params={"like": key, "q": "dogs"}))
    assert {hit["id"] for hit in both} == {hit["id"] for hit in similar}


def test_facts_of_a_photo(client, photos):
    key = key_of(client, "7.jpg")
    facts = client.get(f"/api/photos/{key}").json()
    assert (facts["id"], facts["path"], facts["bytes"]) == (
        key,
        str(photos / "7.jpg"),
        (photos / "7.jpg").stat().st_size,
    )
    assert (facts["width"], facts["height"], facts["camera"], facts["iso"]) == (150, 400, "Box Camera", 400)
    assert facts["has_location"] is False and facts["lens"] is None


@pytest.mark.parametrize(("address", "status"), [("127.0.0.1", 204), ("10.0.0.5", 403)])
def test_the_file_manager_is_for_local_clients(monkeypatch, photos, address, status):
    shown: list[Path] = []
    monkeypatch.setattr(api, "show_in_folder", shown.append)
    app = create_app(ServeSettings())
    with TestClient(app, base_url="http://127.0.0.1:7878", client=(address, 50000)) as client:
        assert client.get("/api/status").json()["local"] == (status == 204)
        response = client.post(f"/api/photos/{key_of(client, '3.jpg')}/show")
        assert client.get("/api/photos/1/show").status_code == 404  # never by a link
    assert response.status_code == status
    assert shown == ([photos / "3.jpg"] if status == 204 else [])


def test_words_of_captions_have_attention_maps(client, photos):
    for caption in client.get("/api/caption", params={"id": key_of(client, "2.jpg")}).json()["captions"]:
        maps = np.array(caption["attention"])
        assert " ".join(caption["words"]) == caption["text"]
        assert maps.shape == (len(caption["words"]), 9, 9)
        np.testing.assert_allclose(maps.max(axis=(1, 2)), 1)


def test_captions_of_a_captioner_without_maps(monkeypatch, photos):
    def without_maps(request, reader):
        if request.attention is not None:
            raise ConfigError("no maps")
        return CaptionGenerator("plain", lambda paths: iter([(paths[0], [Caption("a dog", -1.0, ["a", "dog"])])]))

    monkeypatch.setattr(image_captioning, "load_generator", without_maps)
    found = CaptionService("auto").caption(photos / "0.jpg")
    assert found["captions"] == [{"text": "a dog", "score": -1.0, "words": ["a", "dog"]}]


def test_captions_and_vectors(client, photos, xmodal):
    found = client.get("/api/caption", params={"id": key_of(client, "2.jpg")}).json()
    expected = xmodal("caption", photos / "2.jpg", "--num", "3", "--json").json
    assert [c["text"] for c in found["captions"]] == [c["text"] for c in expected[0]["captions"]]
    vectors = client.get("/api/embed", params={"q": ["two dogs", "snow"]}).json()["vectors"]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1], atol=1e-5)
    (photo,) = client.post("/api/embed", content=(photos / "2.jpg").read_bytes()).json()["vectors"]
    found = client.get("/api/search", params={"q": "two dogs", "k": 8}).json()["hits"]
    score = next(hit["score"] for hit in found if hit["path"].endswith("/2.jpg"))
    assert np.dot(photo, vectors[0]) == pytest.approx(score, abs=2e-3)


@pytest.mark.parametrize(("kind", "size"), [("thumbnail", (120, 320)), ("view", (150, 400))])
def test_views_are_webp_files_of_bounded_size(client, kind, size):
    hit = next(h for h in hits(client.get("/api/search")) if h["path"].endswith("7.jpg"))
    response = client.get(f"/api/photos/{hit['id']}/{kind}", params={"v": hit["v"]})
    assert response.headers["content-type"] == "image/webp"
    assert "immutable" in response.headers["cache-control"]
    with Image.open(io.BytesIO(response.content)) as image:
        assert (image.format, image.size) == ("WEBP", size)
    assert "no-cache" in client.get(f"/api/photos/{hit['id']}/{kind}").headers["cache-control"]


def test_a_file_is_a_download(client, photos):
    response = client.get(f"/api/photos/{key_of(client, '1.jpg')}/file")
    assert response.content == (photos / "1.jpg").read_bytes()
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/api/search?q=%22open", 400, "quotation mark"),
        ("/api/search?k=0", 400, "k=0"),
        ("/api/search?k=1e9", 400, "k=1e9"),
        ("/api/search?k=%D9%A3", 400, "is not a number"),  # a digit of another script
        ("/api/search?offset=-1", 400, "offset"),
        ("/api/search?threshold=high", 400, "threshold"),
        ("/api/search?after=yesterday", 400, "yesterday"),
        ("/api/search?index=nothing", 404, "nothing"),
        ("/api/search?index=../../etc", 404, "etc"),
        ("/api/search?like=x", 400, "like"),
        ("/api/search?like=999999", 404, "999999"),
        ("/api/search?q=" + "a" * 3000, 400, "3,000"),
        ("/api/search?q=%00", 400, "control"),
        ("/api/photos/999999", 404, "999999"),
        ("/api/photos/1/passwd", 404, "passwd"),
        ("/api/photos/-1", 404, "Not Found"),
        ("/api/photos/" + "9" * 17, 404, "9" * 17),
        ("/api/photos/" + "9" * 18, 404, "Not Found"),
        ("/api/photos/" + "9" * 5000 + "/view", 404, "Not Found"),
        ("/api/photos/..%2f..%2fetc%2fpasswd", 404, "Not Found"),
        ("/static/../api.py", 404, "Not Found"),
        ("/static/%2e%2e/api.py", 404, "Not Found"),
        ("/api/caption", 400, "id"),
        ("/api/caption?id=1&model=/etc/passwd", 404, "captioner called '/etc/passwd'"),
        ("/api/caption?id=1&model=..%2Fmodels%2Fstarter-captioner", 404, "captioner"),
        ("/api/caption?id=1&model=starter", 400, "matcher"),
        ("/api/embed", 400, "1 to 64 sentences"),
        ("/api/search?weight=0", 400, "weight"),
        ("/api/search?weight=nan", 400, "weight"),
        ("/api/search?term=a&term=", 400, "empty"),
        ("/nothing", 404, "Not Found"),
    ],
)
def test_errors_are_problem_json(client, path, status, text):
    response = client.get(path)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert text in problem["title"] and problem["status"] == status


def test_text_of_queries_never_names_files(client, photos, monkeypatch):
    monkeypatch.chdir(photos)
    found = client.get("/api/search", params={"q": "1.jpg", "k": 1}).json()
    assert found["query"] == ["1.jpg"]
    assert found["hits"][0]["score"] < 0.9  # scored as text, not as the photo
    assert client.get("/api/search", params={"q": "/etc/passwd"}).status_code == 200


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"", 400), (b"not an image", 400), (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 400), (b"\xff" * 300_000, 413)],
)
def test_bad_uploads(client, content, status):
    response = client.post("/api/search", content=content)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert "/tmp" not in response.text


def test_too_many_photos_in_a_form(client, photos):
    content = (photos / "0.jpg").read_bytes()
    response = client.post("/api/search", files=[("photo", (f"{n}.jpg", content)) for n in range(5)])
    assert response.status_code == 400 and "files" in response.json()["title"]


def test_an_updated_index_is_used_at_once(client, photos, tmp_path):
    assert len(hits(client.get("/api/search"))) == NUM_PHOTOS
    paint(photos / "new.jpg", 99)
    try:
        assert main(["index", str(photos)]) == 0
        assert len(hits(client.get("/api/search"))) == NUM_PHOTOS + 1
        shutil.copy(photos / "new.jpg", tmp_path)
        best, *_ = hits(client.post("/api/search", content=(tmp_path / "new.jpg").read_bytes()))
        assert best["path"].endswith("new.jpg")
    finally:
        (photos / "new.jpg").unlink()
        assert main(["index", str(photos)]) == 0
    assert len(hits(client.get("/api/search"))) == NUM_PHOTOS


def test_a_vanished_photo_has_a_problem(client, photos):
    key = key_of(client, "6.jpg")
    moved = (photos / "6.jpg").rename(photos.parent / "6.jpg")
    try:
        response = client.get(f"/api/photos/{key}/file")
        assert response.status_code == 404 and "does not exist" in response.json()["title"]
        found = client.get("/api/search", params={"q": "dogs"}).json()
        assert len(found["hits"]) == NUM_PHOTOS - 1 and found["vanished"] == 1
    finally:
        moved.rename(photos / "6.jpg")


def test_without_an_index(client, home, monkeypatch):
    monkeypatch.setenv("XMODAL_HOME", str(home))
    assert client.get("/api/indexes").json() == {"indexes": [], "default": None}
    response = client.get("/api/search")
    assert response.status_code == 404 and "xmodal index" in response.json()["hint"]
