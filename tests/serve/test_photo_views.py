"""The cache of views: bounded, and not needed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.served_photos import paint

from xmodal_cli.errors import BadImage, MissingData
from xmodal_cli.retrieval.items import Item
from xmodal_cli.serve.photo_views import PhotoViews


def item(path: Path, digest: int = 1) -> Item:
    return Item(str(path), 1, 1, digest.to_bytes(16))


def test_a_view_is_computed_once(tmp_path):
    photo = paint(tmp_path / "a.jpg", 0)
    views = PhotoViews(tmp_path / "cache")
    first = views.view(item(photo), "thumbnail")
    photo.unlink()
    assert PhotoViews(tmp_path / "cache").view(item(photo), "thumbnail") == first
    with pytest.raises(MissingData, match="does not exist"):
        views.view(item(photo), "view")


def test_views_that_were_not_used_for_the_longest_time_are_deleted(tmp_path):
    photo = paint(tmp_path / "a.jpg", 0)
    views = PhotoViews(tmp_path / "cache")
    sizes = [len(views.view(item(photo, n), "thumbnail")) for n in range(4)]
    files = {n: tmp_path / "cache" / "thumbnail" / f"{n.to_bytes(16).hex()}.webp" for n in range(4)}
    for n, file in files.items():
        os.utime(file, (n, n))
    views.view(item(photo, 0), "thumbnail")  # used again
    PhotoViews(tmp_path / "cache", 2 * sizes[0]).clean()
    assert {n for n, file in files.items() if file.exists()} == {0, 3}


def test_views_need_no_cache(tmp_path):
    (tmp_path / "cache").write_text("a file, not a folder")
    assert PhotoViews(tmp_path / "cache").view(item(paint(tmp_path / "a.jpg", 0)), "view")


def test_a_damaged_photo_is_an_error(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff nothing")
    with pytest.raises(BadImage, match=r"a\.jpg"):
        PhotoViews(tmp_path / "cache").view(item(tmp_path / "a.jpg"), "view")
