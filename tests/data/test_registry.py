"""Datasets by name: added, found again, misspelt, moved away; the registry's file damaged or not writable."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from xmodal_cli import paths
from xmodal_cli.data import registry
from xmodal_cli.data.sources import SOURCES
from xmodal_cli.errors import BadData, ConfigError, MissingData, StorageError, UnknownName


def photos(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or ("a.jpg",):
        (folder / name).write_bytes(b"")
    return folder


def registry_file() -> Path:
    return paths.data_dir() / "registry.json"


def entries() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads(registry_file().read_text())
    return found


def no_space(file: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def few_shapes(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Make shapes(...) draw six pictures; the folders it was asked for."""
    asked: list[Path] = []
    make = registry.make_shapes

    def make_few(out: Path) -> Path:
        asked.append(out)
        return make(out, num_train=4, num_val=1, num_test=1)

    monkeypatch.setattr(registry, "make_shapes", make_few)
    return asked


# ---------------------------------------------------------------------------- adding and finding


def test_what_was_added_is_found_by_its_name(tmp_path: Path) -> None:
    folder = photos(tmp_path / "pics", "a.jpg", "b.jpg")
    added = registry.add("mine", folder)
    assert (added.name, added.format, added.ids) == ("mine", "folder", ("a.jpg", "b.jpg"))
    assert registry.resolve("mine") == folder
    assert registry.load_dataset("mine") == added
    assert registry.known() == {"mine": folder}
    assert entries() == {"mine": {"path": str(folder)}}


def test_relative_paths_and_tildes_are_kept_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = photos(tmp_path / "house" / "pics")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "house"))
    registry.add("one", Path("house") / ".." / "house" / "pics")
    registry.add("two", Path("~/pics"))
    monkeypatch.chdir("/")
    assert registry.resolve("one") == registry.resolve("two") == folder
    assert registry.resolve("~/pics") == folder


def test_a_forced_format_is_remembered(tmp_path: Path) -> None:
    folder = photos(tmp_path / "pics")
    (folder / "a.txt").write_text("a dog")
    assert registry.add("auto", folder).format == "sidecar"
    assert registry.add("bare", folder, "folder").format == "folder"
    assert registry.load_dataset("bare").format == "folder"
    assert registry.load_dataset("bare", "sidecar").format == "sidecar"
    assert registry.load_dataset("auto").format == "sidecar"


def test_a_path_works_without_being_added_and_keeps_its_own_name(tmp_path: Path) -> None:
    folder = photos(tmp_path / "pics")
    assert registry.resolve(str(folder)) == folder
    assert registry.load_dataset(str(folder)).name == "pics"
    assert not registry_file().exists()


def test_a_registered_name_goes_before_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.add("pics", photos(tmp_path / "elsewhere"))
    photos(tmp_path / "here" / "pics")
    monkeypatch.chdir(tmp_path / "here")
    assert registry.resolve("pics") == tmp_path / "elsewhere"
    assert registry.resolve("./pics") == Path("pics")


def test_adding_again_says_where_it_is_now(tmp_path: Path) -> None:
    registry.add("mine", photos(tmp_path / "old"))
    registry.add("other", photos(tmp_path / "other"))
    registry.add("mine", photos(tmp_path / "new"))
    assert registry.known() == {"mine": tmp_path / "new", "other": tmp_path / "other"}


# ---------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        ".",
        "..",
        ".x",
        "a/b",
        "/a",
        "../a",
        "a b",
        "-x",
        "~",
        "a\\b",
        "a\n",
        "a.json",
        "a.jsonl",
        "a.tar",
        "a.csv",
    ],
)
def test_names_that_look_like_something_else_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a dataset's name") as caught:
        registry.add(name, photos(tmp_path / "pics"))
    assert caught.value.hint
    assert not registry_file().exists()


@pytest.mark.parametrize("name", ["f8k", "my-photos_2024", "v1.2", "Räder", "写真"])
def test_names_that_are_names(tmp_path: Path, name: str) -> None:
    registry.add(name, photos(tmp_path / "pics"))
    assert registry.load_dataset(name).name == name


def test_misspelt_names_are_mended(tmp_path: Path) -> None:
    registry.add("holiday", photos(tmp_path / "pics"))
    for wrong, right in (("holyday", "holiday"), ("f8K", "f8k"), ("shape", "shapes"), ("cocoo", "coco")):
        with pytest.raises(UnknownName, match=f"no dataset called '{wrong}'") as caught:
            registry.resolve(wrong)
        assert caught.value.hint == f"did you mean {right!r}?"
    with pytest.raises(UnknownName) as caught:
        registry.resolve("zzz")
    assert caught.value.hint == "known: coco, f30k, f8k, holiday, shapes"


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_datasets_that_can_be_fetched_are_not_called_unknown(name: str) -> None:
    with pytest.raises(MissingData, match=f"the dataset {name} is not on this machine") as caught:
        registry.resolve(name)
    assert f"xmodal data get {name}" in caught.value.hint
    assert f"xmodal data add {name} PATH" in caught.value.hint


@pytest.mark.parametrize(
    "what", ["no/such/place", "./nothing", "nothing.json", "nothing.tar", "~nobody-here/x", "/" + "x" * 5000]
)
def test_paths_that_lead_nowhere(what: str) -> None:
    with pytest.raises(MissingData, match="there is no dataset at"):
        registry.load_dataset(what)


@pytest.mark.parametrize("what", ["", "x" * 5000, "a\0b"])
def test_words_that_are_neither(what: str) -> None:
    with pytest.raises(UnknownName):
        registry.load_dataset(what)


# ---------------------------------------------------------------------------- things that went wrong


def test_a_folder_that_moved_away(tmp_path: Path) -> None:
    folder = photos(tmp_path / "pics")
    registry.add("mine", folder)
    folder.rename(tmp_path / "gone")
    with pytest.raises(MissingData, match=rf"mine is no longer at {folder}") as caught:
        registry.load_dataset("mine")
    assert "xmodal data add mine PATH" in caught.value.hint
    assert registry.known() == {"mine": folder}
    registry.add("mine", tmp_path / "gone")
    assert registry.load_dataset("mine").source == tmp_path / "gone"


def test_what_cannot_be_read_is_not_added(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    registry.add("mine", photos(tmp_path / "pics"))
    before = registry_file().read_bytes()
    with pytest.raises(BadData, match="the folder is empty"):
        registry.add("mine", tmp_path / "empty")
    with pytest.raises(MissingData):
        registry.add("new", tmp_path / "none")
    with pytest.raises(UnknownName):
        registry.add("new", tmp_path / "pics", "foldr")
    assert registry_file().read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b'"x"',
        b"null",
        b'{"a": "b"}',
        b'{"a": {}}',
        b'{"a": {"path": 3}}',
        b'{"a": {"path": ""}}',
        b'{"a": {"path": "/x", "format": 3}}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_a_damaged_registry_is_told_and_not_overwritten(tmp_path: Path, content: bytes) -> None:
    registry_file().parent.mkdir(parents=True)
    registry_file().write_bytes(content)
    steps = (
        registry.known,
        lambda: registry.load_dataset("a"),
        lambda: registry.add("b", photos(tmp_path / "p")),
    )
    for step in steps:
        with pytest.raises(BadData, match=r"registry\.json cannot be read") as caught:
            step()
        assert "delete it" in caught.value.hint
    assert registry_file().read_bytes() == content


def test_a_full_disk_leaves_the_registry_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.add("mine", photos(tmp_path / "pics"))
    before = registry_file().read_bytes()
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(StorageError, match=r"no space left on the disk to write .*registry\.json"):
        registry.add("more", tmp_path / "pics")
    assert registry_file().read_bytes() == before
    assert [f.name for f in paths.data_dir().iterdir()] == ["registry.json"]


# ---------------------------------------------------------------------------- the generated set


def test_shapes_are_made_at_first_use_only(few_shapes: list[Path]) -> None:
    first = registry.load_dataset("shapes")
    assert (first.name, first.format, first.splits) == ("shapes", "jsonl", {"train": 4, "val": 1, "test": 1})
    assert all(e.path is not None and e.path.is_file() and e.captions for e in first.examples)
    assert registry.load_dataset("shapes") == first
    assert few_shapes == [paths.data_dir() / "shapes"]
    assert registry.known() == {}


def test_shapes_that_could_not_be_finished_are_made_again(few_shapes: list[Path]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        with pytest.raises(StorageError, match="no space left"):
            registry.load_dataset("shapes")
    assert list(paths.data_dir().iterdir()) == []
    assert registry.load_dataset("shapes").splits["train"] == 4


def test_a_dataset_of_ones_own_may_be_called_shapes(tmp_path: Path, few_shapes: list[Path]) -> None:
    registry.add("shapes", photos(tmp_path / "pics"))
    assert registry.load_dataset("shapes").format == "folder"
    assert few_shapes == []
