"""Names of indexes: none collides with internal files, and all are found again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from xmodal_cli import atomic_folder, paths
from xmodal_cli.errors import BadData, ConfigError, MissingData
from xmodal_cli.retrieval import edits, registry

if TYPE_CHECKING:
    from helpers.index_fixtures import PhotoIndexFixture

NAMES = ("last.json", "family.lock", "family.journal", "family.old", "family.build-0a1b2c3d", "index.json", "registry")


@pytest.mark.parametrize("name", NAMES)
def test_an_index_can_have_the_name_of_an_internal_file(photo_index: PhotoIndexFixture, name: str) -> None:
    photo_index.fill(2)
    for other in ("family", name):
        photo_index.index_folder = registry.resolve_folder(other)
        photo_index.update()
        registry.set_default(photo_index.index_folder)
    photo_index.fill(3)
    for other in ("family", name, "family"):  # a writer cleans up behind others of the same index
        photo_index.index_folder = registry.resolve_folder(other)
        photo_index.update()
        photo_index.check()
    assert registry.find_index(None).name == name
    assert registry.names() == sorted(["family", name])


def test_an_interrupted_update_of_another_index_is_kept(photo_index: PhotoIndexFixture) -> None:
    """The drafts of ``family.build-x`` begin like those of ``family``."""
    home = paths.indexes_dir()
    draft = home / ".family.build-x.build-01234567"
    old = home / ".family.build-0123456789.old"
    for folder in (draft, old):
        folder.mkdir(parents=True)
    own = home / ".family.build-89abcdef"
    own.mkdir()
    photo_index.fill(1)
    photo_index.index_folder = registry.resolve_folder("family")
    photo_index.update()
    assert (draft.exists(), old.exists(), own.exists()) == (True, True, False)


def test_the_pointer_of_an_older_version_is_read_and_replaced(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(1)
    for name in ("one", "two"):
        photo_index.index_folder = registry.resolve_folder(name)
        photo_index.update()
    old = paths.indexes_dir() / "last.json"
    old.write_text(json.dumps({"index": str(registry.resolve_folder("one"))}))
    assert registry.find_index(None).name == "one"
    registry.set_default(registry.resolve_folder("two"))
    assert registry.find_index(None).name == "two"
    assert not old.exists()


@pytest.mark.parametrize(
    "content", [b"", b"[", b"[]", b"{}", b'{"index": 3}', b'{"index": "x", "renamed_from": 3}', b"\xff", b"[" * 50_000]
)
def test_a_damaged_pointer_is_no_pointer(photo_index: PhotoIndexFixture, content: bytes) -> None:
    photo_index.fill(1)
    for name in ("one", "two"):
        photo_index.index_folder = registry.resolve_folder(name)
        photo_index.update()
    (paths.indexes_dir() / ".last.json").write_bytes(content)
    with pytest.raises(MissingData, match="no longer exists") as error:
        registry.find_index(None)
    assert error.value.hint == "choose one with --index: one, two"


@pytest.mark.parametrize("name", ["é" * 120, "x" * 255, ".hidden", "-rf", "", "new\nline"])
def test_folders_whose_names_no_index_can_have(tmp_path: Path, name: str) -> None:
    folder = tmp_path / (name or "x")
    folder.mkdir()
    chosen = registry.new_folder([str(tmp_path / name)])
    assert chosen.parent == paths.absolute_path(paths.indexes_dir())
    assert chosen.name.isprintable() and not chosen.name.startswith((".", "-"))
    with atomic_folder.write_lock(chosen):
        chosen.with_name(f".{chosen.name}.build-01234567").touch()
    if name != "new\nline" and len(name) != 120:
        with pytest.raises(ConfigError, match="cannot be the name"):
            registry.resolve_folder(name)


@pytest.mark.parametrize("name", [".items.sqlite.0123abcd.tmp", "rebuild.sqlite", "rebuild.sqlite-wal", "segments"])
def test_what_a_killed_first_build_leaves_is_no_obstacle(photo_index: PhotoIndexFixture, name: str) -> None:
    photo_index.index_folder.mkdir(parents=True)
    (photo_index.index_folder / name).mkdir() if name == "segments" else (photo_index.index_folder / name).touch()
    photo_index.fill(2)
    photo_index.update()
    names = sorted(path.name for path in photo_index.index_folder.iterdir())
    assert names == ["index.json", "items.sqlite", "segments"]
    edits.delete_index(photo_index.index_folder)
    assert not photo_index.index_folder.exists()


def test_an_index_is_deleted_with_an_unfinished_rebuild(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(3)
    photo_index.update()
    photo_index.embedder.stop_after = len(photo_index.embedder.paths) + 2
    with pytest.raises(KeyboardInterrupt):
        photo_index.update(rebuild=True)
    assert (photo_index.index_folder / "rebuild.sqlite").exists()
    edits.delete_index(photo_index.index_folder)
    assert not photo_index.index_folder.exists()


def test_a_folder_of_other_files_is_refused(photo_index: PhotoIndexFixture) -> None:
    photo_index.index_folder.mkdir(parents=True)
    (photo_index.index_folder / ".notes.0123abcd.tmp").touch()
    photo_index.fill(2)
    with pytest.raises(BadData, match="exists and is not an index"):
        photo_index.update()
