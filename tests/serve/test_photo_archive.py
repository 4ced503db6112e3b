"""Zips of selected photos: complete, bounded, and only of photos of the index."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from xmodal_cli.serve import photo_archive
from xmodal_cli.serve.photo_archive import Archives, distinct_names, zip_blocks
from xmodal_cli.serve.problems import Busy


def ids(client, *names: str) -> list[int]:
    keys = {Path(hit["path"]).name: hit["id"] for hit in client.get("/api/search").json()["hits"]}
    return [keys[name] for name in names]


def test_a_zip_has_the_files_of_the_photos(client, photos):
    response = client.get("/api/archive", params={"id": ids(client, "2.jpg", "5.jpg")})
    assert response.headers["content-type"] == "application/zip"
    assert response.headers["content-disposition"] == 'attachment; filename="photos.zip"'
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.testzip() is None
        assert {n: archive.read(n) for n in archive.namelist()} == {
            name: (photos / name).read_bytes() for name in ("2.jpg", "5.jpg")
        }


def test_files_that_do_not_exist_are_left_out(client, photos):
    keys = ids(client, "2.jpg", "5.jpg")
    moved = (photos / "5.jpg").rename(photos.parent / "5.jpg")
    try:
        response = client.get("/api/archive", params={"id": keys})
        assert zipfile.ZipFile(io.BytesIO(response.content)).namelist() == ["2.jpg"]
        assert client.get("/api/archive", params={"id": keys[1:]}).status_code == 404
    finally:
        moved.rename(photos / "5.jpg")


@pytest.mark.parametrize(
    ("query", "status"),
    [("", 400), ("id=x", 400), ("id=..%2f1", 400), ("id=-1", 400), ("id=999999", 404), ("id=1&" * 501, 400)],
)
def test_other_requests_are_refused(client, query, status):
    response = client.get(f"/api/archive?{query.rstrip('&')}")
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")


def test_the_size_is_bounded(client, monkeypatch):
    monkeypatch.setattr(photo_archive, "MAX_BYTES", 100)
    assert client.get("/api/archive", params={"id": ids(client, "2.jpg")}).status_code == 413


def test_two_archives_at_a_time(client, monkeypatch):
    archives = Archives()
    for _ in range(2):
        archives.response([])
    with pytest.raises(Busy):
        archives.response([])
    monkeypatch.setattr(photo_archive, "MAX_ARCHIVES", 1)
    for _ in range(3):  # one after the other
        assert client.get("/api/archive", params={"id": ids(client, "2.jpg")}).status_code == 200


def test_a_large_file_is_sent_in_blocks(tmp_path):
    (tmp_path / "large").write_bytes(bytes(5 * 2**20))
    blocks = list(zip_blocks([tmp_path / "large", tmp_path / "missing"]))
    assert max(map(len, blocks)) < 2**19
    assert zipfile.ZipFile(io.BytesIO(b"".join(blocks))).namelist() == ["large"]


def test_names_are_distinct():
    files = [Path("a/x.jpg"), Path("b/x.jpg"), Path("b/X.JPG"), Path("c/x-2.jpg"), Path("c/\udcff.jpg")]
    assert distinct_names(files) == ["x.jpg", "x-2.jpg", "X-3.JPG", "x-2-2.jpg", "\\udcff.jpg"]
