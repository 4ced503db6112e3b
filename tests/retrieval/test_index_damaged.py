"""Files of an index that are damaged, hostile or unreadable: errors that name the file, with a hint that works."""

from __future__ import annotations

import contextlib
import json
import os
import random
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers.index_fixtures import sort_small_segments

from xmodal_cli.errors import BadData, MissingData, XmodalError
from xmodal_cli.retrieval import database, registry
from xmodal_cli.retrieval.database import ITEMS
from xmodal_cli.retrieval.index import is_index
from xmodal_cli.retrieval.search import TermVector
from xmodal_cli.retrieval.search_options import SearchOptions
from xmodal_cli.retrieval.segments import SEGMENTS
from xmodal_cli.retrieval.stored_metadata import METADATA, read_metadata
from xmodal_cli.retrieval.top_photos import TopPhotos

if TYPE_CHECKING:
    from helpers.index_fixtures import PhotoIndexFixture


def _use(photo_index: PhotoIndexFixture) -> None:
    """Read everything that an index has."""
    with photo_index.open() as index:
        index.vectors.rows_of(index.items.all_items())
        index.items.unreadable()
        TopPhotos(index, [TermVector(photo_index.embedder.vector(b"x"), is_text=False)], SearchOptions(3))


def _file(photo_index: PhotoIndexFixture, name: str) -> Path:
    """The database, or the file of the only segment."""
    return photo_index.segments()[0] if name == SEGMENTS else photo_index.index_folder / name


def _raises(photo_index: PhotoIndexFixture, name: str) -> BadData:
    with pytest.raises(BadData) as error:
        _use(photo_index)
    assert str(photo_index.index_folder / name) in error.value.message
    return error.value


def _execute(photo_index: PhotoIndexFixture, statement: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(photo_index.index_folder / ITEMS)) as database, database:
        database.execute(statement, values)


def _change(photo_index: PhotoIndexFixture, key: str, value: Any) -> None:
    outer, _, inner = key.partition(".")
    if inner:
        content = vars(read_metadata(photo_index.index_folder).model) | {"meta": vars(photo_index.model.meta)}
        content = {name: content[name] for name in content if (name, value) != (inner, KeyError)}
        value = content | ({} if value is KeyError else {inner: value})
    _execute(photo_index, "DELETE FROM meta WHERE key = 'sha256'")  # the values are checked without it, too
    if value is KeyError:
        _execute(photo_index, "DELETE FROM meta WHERE key = ?", outer)
    else:
        _execute(photo_index, "UPDATE meta SET value = ? WHERE key = ?", json.dumps(value), outer)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("num_items", value) for value in (-1, 2**70, "3", 3.5, None, True, KeyError)),
        *(("roots", value) for value in (None, 5, "", [], [3], [None], KeyError)),
        *(("model", value) for value in (None, [], "x", {}, KeyError)),
        *(("model.embed_dim", value) for value in (0, -12, "12", None, KeyError)),
        *(("model.meta", value) for value in (None, {}, {"x": 1}, [])),
        *(("model.name", value) for value in (None, 7, {})),
        *(("recall", value) for value in (None, "1", 1.5, -0.1, float("nan"))),
        *(("calibration", value) for value in (1, "sentences", {}, [], {"fraction": 0.1})),
        *(("build", value) for value in (None, KeyError)),
        *(("exclude", value) for value in (3, [3], [None])),
    ],
)
def test_values_of_the_wrong_type(photo_index: PhotoIndexFixture, key: str, value: Any) -> None:
    photo_index.fill(3)
    photo_index.update()
    _change(photo_index, key, value)
    error = _raises(photo_index, ITEMS)
    assert "is damaged" in error.message
    assert error.hint == f"rebuild the index: xmodal index PATH --rebuild --index {photo_index.index_folder}"
    photo_index.update(rebuild=True)  # as in the hint
    photo_index.check()


def test_an_unknown_similarity(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(3)
    photo_index.update()
    _change(photo_index, "model.similarity", "nope")
    with pytest.raises(XmodalError, match="nope"):
        _use(photo_index)


def test_a_newer_format(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(3)
    photo_index.update()
    _execute(photo_index, "PRAGMA user_version=3")
    with pytest.raises(BadData, match=r"was written by a newer xmodal \(format 3\)") as error:
        _use(photo_index)
    assert error.value.hint == "upgrade xmodal"


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b"\0" * 50, b'{"format": 1}', None])
def test_a_summary_is_never_needed(photo_index: PhotoIndexFixture, content: bytes | None) -> None:
    """An index that was killed between a commit and its summary; the next update writes it."""
    photo_index.fill(3)
    photo_index.update()
    file = photo_index.index_folder / METADATA
    expected = file.read_bytes()
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    assert is_index(photo_index.index_folder)
    _use(photo_index)
    photo_index.update()
    assert file.read_bytes() == expected


def test_a_summary_without_its_database(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(3)
    photo_index.update()
    (photo_index.index_folder / ITEMS).unlink()
    assert is_index(photo_index.index_folder)
    with pytest.raises(BadData, match=r"is incomplete: items\.sqlite is missing") as error:
        photo_index.update()
    assert error.value.hint == f"rebuild the index: xmodal index PATH --rebuild --index {photo_index.index_folder}"
    photo_index.update(rebuild=True)
    photo_index.check()


@pytest.mark.parametrize("name", [ITEMS, SEGMENTS])
def test_named_pipes_and_folders_instead_of_files(photo_index: PhotoIndexFixture, name: str) -> None:
    photo_index.fill(3)
    photo_index.update()
    file = _file(photo_index, name)
    file.unlink()
    os.mkfifo(file)
    assert "is not a file" in _raises(photo_index, name).message
    file.unlink()
    file.mkdir()
    assert "is not a file" in _raises(photo_index, name).message
    file.rmdir()
    with pytest.raises(BadData, match=r"is incomplete: .* is missing") as error:
        _use(photo_index)
    assert str(file.relative_to(photo_index.index_folder)) in error.value.message
    words = "PATH --rebuild" if name == ITEMS else "--rebuild"
    assert error.value.hint == f"rebuild the index: xmodal index {words} --index {photo_index.index_folder}"


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM items WHERE id = 1",
        "UPDATE items SET position = 9 WHERE id = 2",
        "UPDATE items SET position = -1 WHERE id = 2",
        "UPDATE items SET segment = 9 WHERE id = 2",
        "UPDATE items SET path = 7 WHERE id = 1",
        "UPDATE items SET digest = 'text'",
        "UPDATE items SET decoding = x'00'",
        "UPDATE items SET size = 'big'",
        "UPDATE items SET width = 'wide'",
        "UPDATE items SET taken = x'07'",
        "DROP TABLE unreadable",
        "DROP TABLE segments",
        "UPDATE segments SET cells = 5",
        "UPDATE segments SET cells = 'none'",
        "UPDATE segments SET cells = 5, cell_sizes = x'0100'",
        "UPDATE segments SET dtype = 'fp8'",
        "UPDATE segments SET num_rows = 'many'",
        "UPDATE segments SET num_rows = 0",
        "UPDATE segments SET num_deleted = 1",
        "UPDATE segments SET deleted = x'01'",
        "UPDATE segments SET deleted = 'text', num_deleted = 1",
        "ALTER TABLE items RENAME COLUMN path TO name",
        "INSERT INTO unreadable VALUES (x'00', 1, 1, 'x', 'no such category')",
        "INSERT INTO unreadable VALUES (x'00', 'big', 1, 'x', 'damaged')",
    ],
)
def test_databases_with_other_contents(photo_index: PhotoIndexFixture, statement: str) -> None:
    photo_index.fill(3)
    photo_index.update()
    _execute(photo_index, statement)
    with pytest.raises(BadData, match=f"{photo_index.index_folder}.* is damaged") as error:
        _use(photo_index)
    assert "--rebuild" in error.value.hint
    photo_index.update(rebuild=True)
    photo_index.check()


@pytest.mark.parametrize("is_sorted", [False, True])
@pytest.mark.parametrize("name", [ITEMS, SEGMENTS])
def test_random_damage_is_an_error_or_harmless(
    photo_index: PhotoIndexFixture, name: str, is_sorted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_sorted:
        sort_small_segments(monkeypatch)
    photo_index.fill(45)
    photo_index.update()
    file = _file(photo_index, name)
    original, rng = file.read_bytes(), random.Random(3)
    for _ in range(25):
        content = bytearray(original)
        if rng.random() < 0.3:
            del content[rng.randrange(len(content)) :]
        for _ in range(rng.choice((0, 1, 8, 64))):
            if content:
                content[rng.randrange(len(content) if name == ITEMS else min(len(content), 400))] = rng.randrange(256)
        file.unlink()  # another file: the old one may be mapped
        file.write_bytes(content)
        try:
            _use(photo_index)
        except XmodalError as error:
            assert str(photo_index.index_folder.name) in error.message


@pytest.mark.parametrize("name", [ITEMS, SEGMENTS])
@pytest.mark.parametrize("code", [13, 5, 116])
def test_files_that_cannot_be_read(
    photo_index: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    photo_index.fill(2)
    photo_index.update()
    opened, file = open, _file(photo_index, name)

    def fail(path: Any, *args: Any) -> Any:
        if Path(path) == file:
            raise OSError(code, os.strerror(code), str(path))
        return opened(path, *args)

    def cannot_open(file: Path, options: str) -> Any:
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr(database, "open", fail, raising=False)
    if name == ITEMS:
        monkeypatch.setattr(database, "_begin_reading", cannot_open)
    error = _raises(photo_index, name)
    assert f"cannot be read: {os.strerror(code).lower()}" in error.message
    assert "permissions" in error.hint


def test_a_home_that_cannot_be_read(
    home: Path, photo_index: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not the same as one without indexes."""
    photo_index.fill(2)
    photo_index.index_folder = home / "indexes" / "family"
    photo_index.update()
    registry.set_default(photo_index.index_folder)
    status, read, listing = Path.stat, Path.read_bytes, os.scandir

    def denied(call: Any) -> Any:
        def run(path: Any, *args: Any, **options: Any) -> Any:
            if str(path).startswith(str(home)):
                raise PermissionError(13, "Permission denied", str(path))
            return call(path, *args, **options)

        return run

    monkeypatch.setattr(Path, "stat", denied(status))
    monkeypatch.setattr(Path, "read_bytes", denied(read))
    monkeypatch.setattr(registry.os, "scandir", denied(listing))
    for call in (lambda: registry.find_index(None), registry.names, photo_index.open):
        with pytest.raises(BadData, match="cannot be read: permission denied"):
            call()
    assert is_index(photo_index.index_folder)  # so that reading it gives the reason


def test_vectors_that_are_not_finite(photo_index: PhotoIndexFixture) -> None:
    """Damage within the numbers is not detected, and raises no other error."""
    photo_index.fill(5)
    photo_index.update()
    (file,) = photo_index.segments()
    content = bytearray(file.read_bytes())
    content[-2:] = np.float16(np.nan).tobytes()
    file.unlink()
    file.write_bytes(content)
    _use(photo_index)


def test_a_missing_index(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path / "file" / "inside", tmp_path / ("x" * 300)):
        (tmp_path / "file").write_text("")
        assert not is_index(path)
        with pytest.raises(MissingData):
            registry.find_index(str(path))
