"""Listing, removing, renaming and deleting with ``xmodal index``; every command that a hint advises is run as typed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.hinted_commands import hinted_commands

from xmodal_cli.device import Compute
from xmodal_cli.inference import encoding, index_models, matchers, models, runtime
from xmodal_cli.retrieval.database import ITEMS
from xmodal_cli.types import FeatureMeta, Unreadable

Run = Callable[..., Any]
COLORS = ("red", "green", "blue", "white")


class ColorMatcher:
    """A LoadedMatcher for text files with color names; ``embedded`` are the files it has read."""

    fingerprint, similarity, name, kind, embed_dim = "1" * 64, "cosine", "toy", "matcher", 5
    path = Path("/models/toy.safetensors")
    compute = Compute("cpu", "fp32", "torch")
    header = SimpleNamespace(features_from=None, dataset={})
    source = str(path)
    meta = FeatureMeta("toy-backbone", "e" * 64, "global", 5)

    def __init__(self) -> None:
        self.embedded: list[str] = []
        self.tokenizer, self.info = self, self

    def unknown_words(self, sentence: str) -> list[str]:
        return []

    def embed_texts(self, sentences: list[str]) -> np.ndarray:
        return np.stack([self._vector(sentence) for sentence in sentences])

    def embed_images(self, files: Iterator[Path]) -> Iterator[tuple[Path, np.ndarray | Unreadable]]:
        for path in files:
            self.embedded.append(path.name)
            yield path, self._vector(path.read_text())

    def _vector(self, text: str) -> np.ndarray:
        vector = np.array([*(text.count(c) for c in COLORS), 0.1], np.float32)
        return vector / np.linalg.norm(vector)


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> ColorMatcher:
    matcher = ColorMatcher()
    monkeypatch.setattr(matchers, "load_matcher", lambda *_: matcher)
    monkeypatch.setattr(models, "describe_model", lambda _: matcher)
    monkeypatch.setattr(index_models, "default_model", lambda _: "toy")
    monkeypatch.setattr(encoding, "image_vectors", lambda loaded, reader=None: loaded.embed_images)
    monkeypatch.setattr(runtime, "choose_runtime", lambda compute, num_images: "torch")
    return matcher


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two folders, ``my photos`` and ``drive``, whose paths need quotes in a shell."""
    base = tmp_path / "it's here"
    for folder, names in (("my photos", ("red", "green")), ("drive", ("blue", "white", "red blue"))):
        (base / folder).mkdir(parents=True)
        for name in names:
            (base / folder / f"{name}.jpg").write_text(name)
    monkeypatch.chdir(base)
    return base


@pytest.fixture
def family(xmodal: Run, toy: ColorMatcher, photos: Path) -> Path:
    assert xmodal("index", "my photos", "drive", "--index", "family").code == 0
    toy.embedded.clear()
    return photos


def commands(outcome: Any) -> list[list[str]]:
    """The commands in the hint of an error, or in a warning, as a shell splits them."""
    found = hinted_commands(outcome.err)
    assert found, outcome.err
    return found


def fails(outcome: Any, message: str) -> Any:
    assert (outcome.code, outcome.out) == (1, ""), outcome
    assert re.search(message, outcome.err), outcome.err
    return outcome


# ---------------------------------------------------------------------------- hints


def test_the_hints_of_an_absent_folder_work(xmodal: Run, toy: ColorMatcher, family: Path) -> None:
    (family / "drive").rename(family / "away")
    (family / "my photos" / "green.jpg").unlink()
    outcome = fails(xmodal("index", "--index", "family"), "drive: no such file or directory; it had 3 photos")
    others, renamed, delete = commands(outcome)
    assert xmodal(*others, "--json").json["removed"] == 1
    assert xmodal("search", "blue", "--json").json["vanished"] == 3
    renamed[renamed.index("NEWPATH")] = str(family / "away")
    report = xmodal(*renamed, "--json").json
    assert (report["index"], report["computed"], report["moved"]) == ("family", 0, 3)
    assert report["roots"] == [str(family / "my photos"), str(family / "away")]
    shutil.rmtree(family / "away")
    fails(xmodal("index", "--index", "family"), "away: no such file")
    assert xmodal(*delete, "--json").json["removed"] == 3
    assert xmodal("index", "--index", "family", "--json").json["roots"] == [str(family / "my photos")]
    assert toy.embedded == []


def test_the_hint_of_the_only_folder_works(xmodal: Run, toy: ColorMatcher, photos: Path) -> None:
    xmodal("index", "drive")
    for path in (photos / "drive").iterdir():
        path.unlink()
    outcome = fails(xmodal("index", "drive"), "drive: it is empty; it had 3 photos when the index 'drive' was updated")
    assert xmodal("search", "blue").code == 0
    assert xmodal(*commands(outcome)[-1], "--json").json["items"] == 0
    assert xmodal("search", "blue", "--json").json["hits"] == []
    (photos / "drive" / "red.jpg").write_text("red")
    assert xmodal("index", "drive", "--json").json["added"] == 1


def test_the_warning_of_a_search_works(xmodal: Run, family: Path, tmp_path: Path) -> None:
    folder = tmp_path / "an index"
    xmodal("index", "my photos", "--index", folder)
    (family / "my photos" / "red.jpg").unlink()
    (command,) = commands(xmodal("search", "red", "--index", folder))
    assert xmodal(*command, "--json").json["removed"] == 1


@pytest.mark.parametrize("where", ["home", "path"])
@pytest.mark.parametrize("name", ["items.sqlite", "segments/*.faiss"])
def test_the_hint_of_a_damaged_index_works(xmodal: Run, family: Path, home: Path, where: str, name: str) -> None:
    index = "family" if where == "home" else str(family / "an index")
    xmodal("index", "my photos", "--index", index)
    folder = home / "indexes" / index if where == "home" else Path(index)
    (file,) = folder.glob(name)
    file.unlink()
    file.write_bytes(b"damaged")
    (command,) = commands(fails(xmodal("search", "red", "--index", index), re.escape(str(file))))
    command = [str(family / "my photos") if word == "PATH" else word for word in command]
    assert xmodal(*command).code == 0
    assert xmodal("search", "red", "--index", index).code == 0


def test_the_hints_of_removing_work(xmodal: Run, family: Path) -> None:
    (family / "my photos" / "in side").mkdir()
    (family / "my photos" / "in side" / "white.jpg").write_text("white")
    xmodal("index", "--index", "family")
    (command,) = commands(fails(xmodal("index", "--remove", "my photos/in side"), "is inside"))
    assert xmodal(*command, "--json").json["removed"] == 1
    assert xmodal("index", "--index", "family", "--json").json["items"] == 5  # the pattern is stored
    xmodal("index", "--remove", "drive")
    (command,) = commands(fails(xmodal("index", "--remove", "my photos"), "is the only folder"))
    assert xmodal(*command).code == 0
    assert xmodal("index", "--list", "--json").json == []


@pytest.mark.parametrize("name", ["a[1]*", "q\\z", "end ", "a?b", "!x", "tab\t"])
def test_the_hint_of_removing_excludes_this_folder_only(xmodal: Run, family: Path, name: str) -> None:
    for folder in (name, "a1", "qz", "end", "axb", "x"):
        (family / "drive" / folder).mkdir()
        (family / "drive" / folder / "white.jpg").write_text("white")
    xmodal("index", "--index", "family")
    (command,) = commands(fails(xmodal("index", "--remove", f"drive/{name}"), "is inside"))
    assert xmodal(*command, "--json").json["removed"] == 1
    assert str(family / "drive" / name / "white.jpg") not in xmodal("search", "white", "--all", "--paths").out


def test_the_hint_of_an_absent_folder_without_photos_works(xmodal: Run, family: Path) -> None:
    shutil.rmtree(family / "drive")
    (family / "drive").mkdir()
    assert xmodal("index", "--index", "family", "--remove-missing", "--json").json["removed"] == 3
    (family / "drive").rmdir()
    (command,) = commands(fails(xmodal("index", "--index", "family"), "drive cannot be indexed"))
    assert xmodal(*command).code == 0
    assert xmodal("index", "--index", "family", "--json").json["roots"] == [str(family / "my photos")]
    shutil.rmtree(family / "my photos")
    assert xmodal("index", "--index", "family", "--remove-missing", "--json").json["items"] == 0
    (command,) = commands(fails(xmodal("index", "--index", "family"), "my photos cannot be indexed"))
    assert xmodal(*command).code == 0
    assert xmodal("index", "--list", "--json").json == []


def test_a_folder_whose_photos_are_all_excluded_is_not_absent(xmodal: Run, family: Path) -> None:
    outcome = xmodal("index", "--index", "family", "--exclude", "/*blue.jpg", "--exclude", "/white.jpg")
    fails(outcome, r"drive/.*\.jpg is excluded by --exclude; it had 3 photos")
    assert "mount" not in outcome.err
    (family / "my photos" / ".xmodalignore").write_text("*\n")
    outcome = fails(xmodal("index", "my photos", "--index", "family"), r"is excluded by .*\.xmodalignore; it had 2")
    (command,) = commands(outcome)
    assert xmodal(*command).code == 0
    assert xmodal("index", "--index", "family", "--json").json["roots"] == [str(family / "drive")]
    outcome = xmodal("index", "drive", "--index", "new", "--exclude", "*.jpg")
    fails(outcome, "no images in .*drive: .* is excluded by --exclude")


def test_the_hint_of_another_model_keeps_all_folders(
    xmodal: Run, toy: ColorMatcher, family: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ColorMatcher, "fingerprint", "2" * 64)
    outcome = fails(xmodal("index", "drive", "--index", "family", "--model", "new"), "made by the model toy")
    (command,) = commands(outcome)
    assert "/models/toy.safetensors" in command
    report = xmodal(*command, "--json").json
    assert (report["items"], len(report["roots"])) == (5, 2)


def test_a_folder_of_two_indexes_needs_the_name_of_one(xmodal: Run, family: Path) -> None:
    xmodal("index", "drive", "my photos", "--index", "second")
    outcome = fails(xmodal("index", "--remove", "drive"), "several indexes have the folder .*: family, second")
    assert "--index family" in outcome.err
    assert xmodal("index", "--remove", "drive", "--index", "second", "--json").json["removed"] == 3
    fails(xmodal("index", "--remove", "drive", "--index", "second"), "is not a folder of the index 'second'")


# ---------------------------------------------------------------------------- lists and changes


def test_the_list(xmodal: Run, family: Path, home: Path) -> None:
    xmodal("index", "drive", "--index", "second", "--exclude", "*.gif")
    shutil.rmtree(family / "my photos")
    entries = xmodal("index", "--list", "--json").json
    assert [(entry["index"], entry["is_default"], entry["photos"]) for entry in entries] == [
        ("family", False, 5),
        ("second", True, 3),
    ]
    assert entries[0]["roots"] == [
        {"path": str(family / "my photos"), "photos": 2, "state": "missing"},
        {"path": str(family / "drive"), "photos": 3, "state": "ok"},
    ]
    assert entries[1]["exclude"] == ["*.gif"]
    text = xmodal("index", "--list").out
    assert "second (default): 3 photos, model toy, updated" in text
    assert f"  {family / 'my photos'} (2 photos, missing)" in text
    assert "  excluded: *.gif" in text
    (home / "indexes" / "second" / ITEMS).write_text("{")
    assert "second (default):" in (out := xmodal("index", "--list").out) and "is damaged" in out
    assert [entry["index"] for entry in xmodal("index", "--list", "--index", "family", "--json").json] == ["family"]


def test_a_long_list_of_photos_is_shortened(xmodal: Run, toy: ColorMatcher, photos: Path) -> None:
    """Photos given one by one are roots of their own."""
    files = sorted(path for path in photos.rglob("*") if path.is_file())
    for number in range(25):
        shutil.copyfile(files[0], photos / f"copy{number}{files[0].suffix}")
    copies = sorted(photos.glob("copy*"))
    assert xmodal("index", *copies, "--index", "single").code == 0
    lines = xmodal("index", "--list", "--index", "single").out.splitlines()
    assert (len(lines), lines[-1]) == (22, "  and 5 more (use --json to list all)")
    (entry,) = xmodal("index", "--list", "--index", "single", "--json").json
    assert len(entry["roots"]) == 25


def test_an_empty_list(xmodal: Run) -> None:
    assert xmodal("index", "--list").out == "there are no indexes yet; create one: xmodal index PATH\n"
    assert xmodal("index", "--list", "--json").json == []


def test_renaming(xmodal: Run, toy: ColorMatcher, family: Path) -> None:
    assert xmodal("index", "--rename", "family", "relatives", "--json").json["index"] == "relatives"
    assert xmodal("search", "red", "--json").json["index"] == "relatives"
    assert "did you mean 'relatives'" in xmodal("index", "--rename", "relative", "x").err
    (family / "drive").rename(family / "usb")
    report = xmodal("index", "--rename", "drive", "usb", "--json").json
    assert (report["index"], report["moved"]) == ("relatives", 3)
    update = xmodal("index", "--index", "relatives", "--json").json
    assert (update["unchanged"], update["roots"]) == (5, [str(family / "my photos"), str(family / "usb")])
    assert toy.embedded == []


def test_deleting(xmodal: Run, family: Path, home: Path) -> None:
    assert "the photos are kept" in xmodal("index", "--delete", "family").out
    assert list((home / "indexes").iterdir()) == []
    assert len(list((family / "drive").iterdir())) == 3
    assert "there is no index called 'family'" in xmodal("index", "--delete", "family").err
    xmodal("index", "drive")
    (home / "indexes" / "drive" / ITEMS).write_text("{")
    assert xmodal("index", "--delete", "drive").code == 0  # a damaged one too


def test_contradicting_options(xmodal: Run, family: Path) -> None:
    fails(xmodal("index", "--list", "--delete", "family"), "--list and --delete: give one of them")
    fails(xmodal("index", "drive", "--delete", "family"), "without PATH")
    assert xmodal("index", "--list", "--json").json[0]["photos"] == 5


# ---------------------------------------------------------------------------- which index, and what it leaves out


def test_a_renamed_folder_is_found_without_the_name_of_its_index(xmodal: Run, toy: ColorMatcher, photos: Path) -> None:
    xmodal("index", "drive")
    toy.embedded.clear()
    (photos / "drive").rename(photos / "usb disk")
    report = xmodal("index", "usb disk", "--json").json
    assert (report["index"], report["computed"], report["moved"]) == ("drive", 0, 3)
    assert report["moved_roots"] == [str(photos / "drive")]
    assert toy.embedded == []
    (photos / "usb disk").rename(photos / "third")
    assert f"folder moved or renamed: {photos / 'usb disk'}" in xmodal("index", "third").out


def test_patterns_are_stored_and_can_be_taken_back(xmodal: Run, photos: Path) -> None:
    report = xmodal("index", "drive", "--exclude", "red*", "--exclude", "/white.jpg", "--json").json
    assert (report["items"], report["exclude"]) == (1, ["red*", "/white.jpg"])
    assert report["left_out"]["counts"] == {"excluded": 2}
    assert [(Path(f["path"]).name, f["reason"]) for f in report["left_out"]["files"]] == [
        ("red blue.jpg", "excluded by --exclude"),
        ("white.jpg", "excluded by --exclude"),
    ]
    assert xmodal("index", "drive", "--json").json["items"] == 1
    report = xmodal("index", "--index", "drive", "--exclude", "!red*", "--json").json
    assert (report["items"], report["exclude"]) == (2, ["red*", "/white.jpg", "!red*"])
    assert "2 excluded" not in xmodal("index", "drive").out
    fails(xmodal("index", "drive", "--exclude", "!"), "--exclude: ")


def test_kept_photos_are_listed(xmodal: Run, family: Path) -> None:
    (family / "my photos" / "usb").symlink_to(family / "drive")
    (family / "my photos" / "lost.jpg").symlink_to(family / "nowhere.jpg")
    xmodal("index", "my photos", "--index", "links")
    (family / "drive").rename(family / "off")
    outcome = xmodal("index", "my photos", "--index", "links")
    assert outcome.code == 0
    assert "3 photos were not found, and are kept:" in outcome.out
    assert f"  {family / 'my photos' / 'usb'} (3 photos): link to a file or folder that does not exist" in outcome.out
    report = xmodal("index", "my photos", "--index", "links", "--json").json
    assert [(Path(entry["path"]).name, entry["photos"]) for entry in report["kept"]] == [("usb", 3)]
    assert report["left_out"]["counts"] == {"missing": 1}
    assert report["removed"] == 0


def test_a_folder_called_last_json(xmodal: Run, photos: Path) -> None:
    (photos / "drive").rename(photos / "last.json")
    assert xmodal("index", "last.json", "--json").json["index"] == "last.json"
    assert xmodal("index", "my photos").code == 0
    assert xmodal("search", "red", "--json").json["index"] == "my photos"
    assert xmodal("search", "red", "--index", "last.json", "--json").json["index"] == "last.json"


def test_copies_are_folded_unless_all_are_asked_for(xmodal: Run, photos: Path) -> None:
    shutil.copy(photos / "drive" / "blue.jpg", photos / "drive" / "again.jpg")
    xmodal("index", "drive")
    hits = xmodal("search", "blue", "-k", "2", "--json").json["hits"]
    assert [(Path(hit["path"]).name, hit["duplicates"]) for hit in hits] == [("again.jpg", 1), ("red blue.jpg", 0)]
    assert "+1 copy" in xmodal("search", "blue").out
    hits = xmodal("search", "blue", "-k", "2", "--all", "--json").json["hits"]
    assert [(Path(hit["path"]).name, hit["duplicates"]) for hit in hits] == [("again.jpg", 0), ("blue.jpg", 0)]
    assert "copy" not in xmodal("search", "--all", "blue").out
