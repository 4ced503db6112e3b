"""``xmodal index --check`` on an index of the fake photos."""

from __future__ import annotations

from helpers.index_fixtures import PhotoIndexFixture


def test_an_undamaged_index(photo_index: PhotoIndexFixture, xmodal) -> None:
    photo_index.fill(3)
    photo_index.update()
    done = xmodal("index", "--check", "--index", photo_index.index_folder)
    assert done.code == 0
    assert "3 photos, no damage in" in done.out
    report = xmodal("index", "--check", "--index", photo_index.index_folder, "--json").json
    assert (report["index"], report["num_photos"], report["num_segments"]) == ("family", 3, 1)


def test_a_damaged_index(photo_index: PhotoIndexFixture, xmodal) -> None:
    photo_index.fill(3)
    photo_index.update()
    (file,) = photo_index.segments()
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    done = xmodal("index", "--check", "--index", photo_index.index_folder)
    assert done.code == 1
    assert str(file) in done.err


def test_paths_are_not_taken(photo_index: PhotoIndexFixture, xmodal) -> None:
    done = xmodal("index", "--check", photo_index.photos)
    assert done.code == 1
    assert "without PATH" in done.err
