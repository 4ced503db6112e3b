"""Files of an index that are damaged, hostile or unreadable: errors that name the file, with a hint that works."""

from __future__ import annotations

import json
import os
import random
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from xmodal_cli.errors import BadData, MissingData, XmodalError
from xmodal_cli.retrieval import index as index_module
from xmodal_cli.retrieval import registry
from xmodal_cli.retrieval.index import ITEMS, METADATA, VECTORS, is_index
from xmodal_cli.retrieval.search import TermVector
from xmodal_cli.retrieval.top_photos import TopPhotos

if TYPE_CHECKING:
    from helpers.index_fixtures import PhotoIndexFixture


def _use(photo_index: PhotoIndexFixture) -> None:
    """Read everything that an index has."""
    with photo_index.open() as index:
        list(index.items.all_items())
        index.items.unreadable()
        TopPhotos(index, [TermVector(photo_index.embedder.vector(b"x"), is_text=False)], 3)


def _raises(photo_index: PhotoIndexFixture, name: str) -> BadData:
    with pytest.raises(BadData) as error:
        _use(photo_index)
    assert str(photo_index.index_folder / name) in error.value.message
    return error.value


def _change(photo_index: PhotoIndexFixture, key: str, value: Any) -> None:
    file = photo_index.index_folder / METADATA
    content = json.loads(file.read_text())
    inner = content["model"] if key.startswith("model.") else content
    key = key.removeprefix("model.")
    if value is KeyError:
        del inner[key]
    else:
        inner[key] = value
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("num_items", value) for value in (-1, 2**70, "3", 3.5, None, True, KeyError)),
        *(("roots", value) for value in (None, 5, "", [], [3], [None], KeyError)),
        *(("model", value) for value in (None, [], "x", {}, KeyError)),
        *(("model.embed_dim", value) for value in (0, -12, "12", None, KeyError)),
        *(("model.meta", value) for value in (None, {}, {"x": 1}, [])),
        *(("model.name", value) for value in (None, 7, {})),
        *(("kind", value) for value in (None, 1, ["flat"], KeyError)),
        *(("build", value) for value in (None, KeyError)),
        *(("exclude", value) for value in (3, [3], [None])),
        ("format", "one"),
        ("format", None),
        ("format", KeyError),
    ],
)
def test_values_of_the_wrong_type(photo_index: PhotoIndexFixture, key: str, value: Any) -> None:
    photo_index.fill(3)
    photo_index.update()
    _change(photo_index, key, value)
    error = _raises(photo_index, METADATA)
    assert "is damaged" in error.message
    assert error.hint == f"rebuild the index: xmodal index PATH --rebuild --index {photo_index.index_folder}"
    photo_index.update(rebuild=True)  # as in the hint
    photo_index.check()


@pytest.mark.parametrize(("key", "value"), [("kind", "hsnw"), ("model.similarity", "nope")])
def test_unknown_names(photo_index: PhotoIndexFixture, key: str, value: str) -> None:
    photo_index.fill(3)
    photo_index.update()
    _change(photo_index, key, value)
    with pytest.raises(XmodalError, match=value):
        _use(photo_index)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"null", b"3", b'"x"', b"{", b"\xff\xfe", b"[" * 100_000, b"\0" * 50, b'{"format": 1}']
)
def test_an_index_json_that_is_none(photo_index: PhotoIndexFixture, content: bytes) -> None:
    photo_index.fill(3)
    photo_index.update()
    (photo_index.index_folder / METADATA).write_bytes(content)
    _raises(photo_index, METADATA)


@pytest.mark.parametrize("name", [ITEMS, VECTORS])
def test_named_pipes_and_folders_instead_of_files(photo_index: PhotoIndexFixture, name: str) -> None:
    photo_index.fill(3)
    photo_index.update()
    (photo_index.index_folder / name).unlink()
    os.mkfifo(photo_index.index_folder / name)
    assert "is not a file" in _raises(photo_index, name).message
    (photo_index.index_folder / name).unlink()
    (photo_index.index_folder / name).mkdir()
    assert "is not a file" in _raises(photo_index, name).message
    (photo_index.index_folder / name).rmdir()
    with pytest.raises(BadData, match=f"is incomplete: {name} is missing") as error:
        _use(photo_index)
    assert error.value.hint == f"rebuild the index: xmodal index --rebuild --index {photo_index.index_folder}"


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM items WHERE row = 1",
        "DELETE FROM items WHERE row = 2",
        "UPDATE items SET row = 9 WHERE row = 2",
        "UPDATE items SET path = 7 WHERE row = 0",
        "UPDATE items SET digest = 'text'",
        "UPDATE items SET size = 'big'",
        "DROP TABLE unreadable",
        "ALTER TABLE items RENAME COLUMN path TO name",
        "INSERT INTO unreadable VALUES (x'00', 1, 1, 'x', 'no such category')",
    ],
)
def test_databases_with_other_contents(photo_index: PhotoIndexFixture, statement: str) -> None:
    photo_index.fill(3)
    photo_index.update()
    with sqlite3.connect(photo_index.index_folder / ITEMS) as database:
        database.execute(statement)
    database.close()
    assert "is damaged" in _raises(photo_index, ITEMS).message


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
@pytest.mark.parametrize("name", [METADATA, ITEMS, VECTORS])
def test_random_damage_is_an_error_or_harmless(photo_index: PhotoIndexFixture, name: str, kind: str) -> None:
    photo_index.fill(45)
    photo_index.update(kind=kind)
    file = photo_index.index_folder / name
    original, rng = file.read_bytes(), random.Random(3)
    for _ in range(25):
        content = bytearray(original)
        if rng.random() < 0.3:
            del content[rng.randrange(len(content)) :]
        for _ in range(rng.choice((0, 1, 8, 64))):
            if content:
                content[rng.randrange(min(len(content), 400))] = rng.randrange(256)
        file.unlink()  # another file: the old one may be mapped
        file.write_bytes(content)
        try:
            _use(photo_index)
        except XmodalError as error:
            assert str(photo_index.index_folder.name) in error.message or name == METADATA


@pytest.mark.parametrize("name", [METADATA, ITEMS, VECTORS])
@pytest.mark.parametrize("code", [13, 5, 116])
def test_files_that_cannot_be_read(
    photo_index: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    photo_index.fill(2)
    photo_index.update()
    opened, read = open, Path.read_bytes

    def fail(path: Any, *args: Any) -> Any:
        if Path(path).name == name:
            raise OSError(code, os.strerror(code), str(path))
        return opened(path, *args)

    monkeypatch.setattr(index_module, "open", fail, raising=False)
    monkeypatch.setattr(Path, "read_bytes", lambda path: fail(path) if path.name == name else read(path))
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
    file = photo_index.index_folder / VECTORS
    content = bytearray(file.read_bytes())
    content[-4:] = np.float32(np.nan).tobytes()
    file.unlink()
    file.write_bytes(content)
    _use(photo_index)


def test_a_missing_index(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path / "file" / "inside", tmp_path / ("x" * 300)):
        (tmp_path / "file").write_text("")
        assert not is_index(path)
        with pytest.raises(MissingData):
            registry.find_index(str(path))
