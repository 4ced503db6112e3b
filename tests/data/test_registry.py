"""The registry of datasets: names, paths, misspelled names, moved datasets, a damaged or read-only registry file."""

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
    content: dict[str, dict[str, str]] = json.loads(registry_file().read_text())
    return content


def no_space(file: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def few_shapes(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Limits the ``shapes`` dataset to six images; the list collects the folders it is written to."""
    folders: list[Path] = []
    make = registry.make_shapes

    def make_few(out: Path) -> Path:
        folders.append(out)
        return make(out, num_train=4, num_val=1, num_test=1)

    monkeypatch.setattr(registry, "make_shapes", make_few)
    return folders


# ---------------------------------------------------------------------------- add and resolve


def test_a_registered_dataset_is_loaded_by_name(tmp_path: Path) -> None:
    folder = photos(tmp_path / "pics", "a.jpg", "b.jpg")
    added = registry.add("mine", folder)
    assert (added.name, added.format, added.ids) == ("mine", "folder", ("a.jpg", "b.jpg"))
    assert registry.resolve("mine") == folder
    assert registry.load_dataset("mine") == added
    assert registry.list_registered() == {"mine": folder}
    assert entries() == {"mine": {"path": str(folder)}}


def test_relative_paths_and_tildes_are_stored_as_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = photos(tmp_path / "house" / "pics")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "house"))
    registry.add("one", Path("house") / ".." / "house" / "pics")
    registry.add("two", Path("~/pics"))
    monkeypatch.chdir("/")
    assert registry.resolve("one") == registry.resolve("two") == folder
    assert registry.resolve("~/pics") == folder


def test_the_format_given_to_add_is_stored(tmp_path: Path) -> None:
    folder = photos(tmp_path / "pics")
    (folder / "a.txt").write_text("a dog")
    assert registry.add("auto", folder).format == "sidecar"
    assert registry.add("bare", folder, "folder").format == "folder"
    assert registry.load_dataset("bare").format == "folder"
    assert registry.load_dataset("bare", "sidecar").format == "sidecar"
    assert registry.load_dataset("auto").format == "sidecar"


def test_a_path_is_loaded_without_registration(tmp_path: Path) -> None:
    folder = photos(tmp_path / "pics")
    assert registry.resolve(str(folder)) == folder
    assert registry.load_dataset(str(folder)).name == "pics"
    assert not registry_file().exists()


def test_a_registered_name_takes_precedence_over_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.add("pics", photos(tmp_path / "elsewhere"))
    photos(tmp_path / "here" / "pics")
    monkeypatch.chdir(tmp_path / "here")
    assert registry.resolve("pics") == tmp_path / "elsewhere"
    assert registry.resolve("./pics") == Path("pics")


def test_adding_a_name_again_replaces_its_path(tmp_path: Path) -> None:
    registry.add("mine", photos(tmp_path / "old"))
    registry.add("other", photos(tmp_path / "other"))
    registry.add("mine", photos(tmp_path / "new"))
    assert registry.list_registered() == {"mine": tmp_path / "new", "other": tmp_path / "other"}


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
def test_invalid_names_are_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a dataset's name") as caught:
        registry.add(name, photos(tmp_path / "pics"))
    assert caught.value.hint
    assert not registry_file().exists()


@pytest.mark.parametrize("name", ["f8k", "my-photos_2024", "v1.2", "Räder", "写真"])
def test_valid_names(tmp_path: Path, name: str) -> None:
    registry.add(name, photos(tmp_path / "pics"))
    assert registry.load_dataset(name).name == name


def test_misspelled_names_have_a_suggestion(tmp_path: Path) -> None:
    registry.add("holiday", photos(tmp_path / "pics"))
    for wrong, right in (("holyday", "holiday"), ("f8K", "f8k"), ("shape", "shapes"), ("cocoo", "coco")):
        with pytest.raises(UnknownName, match=f"no dataset called '{wrong}'") as caught:
            registry.resolve(wrong)
        assert caught.value.hint == f"did you mean {right!r}?"
    with pytest.raises(UnknownName) as caught:
        registry.resolve("zzz")
    assert caught.value.hint == "known: coco, f30k, f8k, holiday, shapes"


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_the_hint_for_a_public_dataset_is_to_fetch_or_add_it(name: str) -> None:
    with pytest.raises(MissingData, match=f"the dataset {name} is not on this machine") as caught:
        registry.resolve(name)
    assert f"xmodal data get {name}" in caught.value.hint
    assert f"xmodal data add {name} PATH" in caught.value.hint


@pytest.mark.parametrize(
    "path", ["no/such/folder", "./nothing", "nothing.json", "nothing.tar", "~nobody-here/x", "/" + "x" * 5000]
)
def test_paths_that_do_not_exist(path: str) -> None:
    with pytest.raises(MissingData, match="there is no dataset at"):
        registry.load_dataset(path)


@pytest.mark.parametrize("text", ["", "x" * 5000, "a\0b"])
def test_neither_a_name_nor_a_path(text: str) -> None:
    with pytest.raises(UnknownName):
        registry.load_dataset(text)


# ---------------------------------------------------------------------------- errors


def test_a_moved_dataset(tmp_path: Path) -> None:
    folder = photos(tmp_path / "pics")
    registry.add("mine", folder)
    folder.rename(tmp_path / "gone")
    with pytest.raises(MissingData, match=rf"mine is no longer at {folder}") as caught:
        registry.load_dataset("mine")
    assert "xmodal data add mine PATH" in caught.value.hint
    assert registry.list_registered() == {"mine": folder}
    registry.add("mine", tmp_path / "gone")
    assert registry.load_dataset("mine").source == tmp_path / "gone"


def test_an_unreadable_dataset_is_not_registered(tmp_path: Path) -> None:
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
def test_a_damaged_registry_raises_and_is_not_overwritten(tmp_path: Path, content: bytes) -> None:
    registry_file().parent.mkdir(parents=True)
    registry_file().write_bytes(content)
    steps = (
        registry.list_registered,
        lambda: registry.load_dataset("a"),
        lambda: registry.add("b", photos(tmp_path / "p")),
    )
    for step in steps:
        with pytest.raises(BadData, match=r"registry\.json cannot be read") as caught:
            step()
        assert "delete it" in caught.value.hint
    assert registry_file().read_bytes() == content


def test_a_full_disk_leaves_the_registry_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.add("mine", photos(tmp_path / "pics"))
    before = registry_file().read_bytes()
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(StorageError, match=r"no space left on the disk to write .*registry\.json"):
        registry.add("more", tmp_path / "pics")
    assert registry_file().read_bytes() == before
    assert [f.name for f in paths.data_dir().iterdir()] == ["registry.json"]


# ---------------------------------------------------------------------------- shapes


def test_shapes_are_generated_once(few_shapes: list[Path]) -> None:
    first = registry.load_dataset("shapes")
    assert (first.name, first.format, first.splits) == ("shapes", "jsonl", {"train": 4, "val": 1, "test": 1})
    assert all(e.path is not None and e.path.is_file() and e.captions for e in first.examples)
    assert registry.load_dataset("shapes") == first
    assert few_shapes == [paths.data_dir() / "shapes"]
    assert registry.list_registered() == {}


def test_shapes_are_generated_again_after_a_failure(few_shapes: list[Path]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        with pytest.raises(StorageError, match="no space left"):
            registry.load_dataset("shapes")
    assert list(paths.data_dir().iterdir()) == []
    assert registry.load_dataset("shapes").splits["train"] == 4


def test_the_name_shapes_can_be_registered(tmp_path: Path, few_shapes: list[Path]) -> None:
    registry.add("shapes", photos(tmp_path / "pics"))
    assert registry.load_dataset("shapes").format == "folder"
    assert few_shapes == []


# ---------------------------------------------------------------------------- entries


def test_the_entry_of_a_name(tmp_path: Path, few_shapes: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = photos(tmp_path / "pics")
    registry.add("mine", folder, "folder")
    assert registry.find_entry("mine") == {"path": str(folder), "format": "folder"}
    monkeypatch.chdir(tmp_path)
    for other in (str(folder), "pics", "../pics", "f8k", ""):
        assert registry.find_entry(other) is None
    assert registry.find_entry("shapes") is None and few_shapes == []  # nothing is generated
    registry.load_dataset("shapes")
    assert registry.find_entry("shapes") == {"path": str(few_shapes[0])}
