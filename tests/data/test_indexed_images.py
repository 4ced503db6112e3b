"""Images by position: offsets in tar archives are looked up once, files are opened as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.shard_data import add_member

from xmodal_cli.data import tar
from xmodal_cli.data.indexed_images import IndexedImages
from xmodal_cli.errors import BadData


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Two members of each of three archives, in turns, and a file in a folder whose name ends in .tar."""
    paths = [tmp_path / f"{n % 3}.tar" / f"in/{n}.jpg" for n in range(6)]
    for n, path in enumerate(paths):
        add_member(path.parent.parent, f"in/{n}.jpg", f"image {n}".encode())
    folder = tmp_path / "folder.tar"
    folder.mkdir()
    (folder / "6.jpg").write_bytes(b"image 6")
    return [*paths, folder / "6.jpg"]


def test_bytes_of_members_and_files(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    images = IndexedImages(paths)

    def unexpected(archive: Path) -> None:
        raise AssertionError(f"{archive} is indexed again")

    monkeypatch.setattr(tar, "index_archive", unexpected)
    for n in (5, 0, 6, 3):
        with images.open_bytes(n) as file:
            assert file.read() == f"image {n}".encode()


def test_a_member_that_does_not_exist(paths: list[Path]) -> None:
    with pytest.raises(BadData, match=r"0\.tar has no member 'absent\.jpg'"):
        IndexedImages([paths[0].parent.parent / "absent.jpg"])
