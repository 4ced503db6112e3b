"""Photos of a search are copied to a folder without overwriting a file."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from xmodal_cli.cli import hit_files
from xmodal_cli.cli.hit_files import check_copy_folder, copy_photos, open_hit
from xmodal_cli.errors import ConfigError, MissingData, StorageError
from xmodal_cli.reporter import SilentReporter
from xmodal_cli.retrieval.search_result import Hit, SearchResult


class Warnings(SilentReporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, message: str) -> None:
        self.lines.append(message)


def result(*paths: Path) -> SearchResult:
    hits = tuple(Hit(rank, str(path), 0.5) for rank, path in enumerate(paths, 1))
    return SearchResult("i", "m", "cosine", ("q",), hits, 9, 0, ())


def make(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    return path


def test_no_file_is_overwritten(tmp_path: Path) -> None:
    photos = [make(tmp_path / folder / "a.jpg", folder.encode()) for folder in ("x", "y", "z")]
    target = tmp_path / "new" / "folder"
    assert copy_photos(result(*photos), target, SilentReporter()) == 3
    contents = {path.name: path.read_bytes() for path in target.iterdir()}
    assert contents == {"a.jpg": b"x", "a (2).jpg": b"y", "a (3).jpg": b"z"}
    assert (target / "a (2).jpg").stat().st_mtime == 1_000_000_000
    assert copy_photos(result(*photos), target, SilentReporter()) == 0  # all are there
    assert len(list(target.iterdir())) == 3


def test_an_unreadable_photo_is_skipped_with_a_warning(tmp_path: Path) -> None:
    warnings = Warnings()
    photo = make(tmp_path / "a.jpg", b"a")
    assert copy_photos(result(tmp_path / "gone.jpg", photo), tmp_path / "to", warnings) == 1
    assert warnings.lines == [f"{tmp_path / 'gone.jpg'} was not copied: no such file or directory"]


def test_a_folder_that_cannot_be_used_is_refused_before_the_search(tmp_path: Path) -> None:
    file = make(tmp_path / "file", b"")
    for folder in (file, file / "below"):
        with pytest.raises(StorageError, match="is not a folder"):
            check_copy_folder(folder)
    assert check_copy_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert not (tmp_path / "a").exists()


def test_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    monkeypatch.setattr(hit_files, "open_photo", lambda photo, hint: opened.append(photo))
    open_hit(result(tmp_path / "a.jpg", tmp_path / "b.jpg"), 2)
    assert opened == [tmp_path / "b.jpg"]
    with pytest.raises(ConfigError, match="only 2 results"):
        open_hit(result(tmp_path / "a.jpg", tmp_path / "b.jpg"), 3)


def test_hints_of_photos_that_cannot_be_opened(tmp_path: Path) -> None:
    hits = replace(result(tmp_path / "a.jpg"), folder=str(tmp_path / "my index"))
    with pytest.raises(MissingData) as missing:
        open_hit(hits, 1)
    assert missing.value.hint == f"update the index: xmodal index --index '{tmp_path / 'my index'}'"
    with pytest.raises(ConfigError) as beyond:
        open_hit(replace(hits, items=30), 20, ":k")
    assert beyond.value.hint == ":k 20 shows more results"
    with pytest.raises(ConfigError) as beyond:
        open_hit(replace(hits, items=19), 20, ":k")
    assert beyond.value.hint == "give a number from 1 to 1"
