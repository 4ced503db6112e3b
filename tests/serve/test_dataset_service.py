"""Datasets by name: read once, again when their files have changed, and never by a path."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from helpers.served_photos import paint

from xmodal_cli.data import registry
from xmodal_cli.data.shapes import make_shapes
from xmodal_cli.errors import MissingData, UnknownName
from xmodal_cli.paths import data_dir
from xmodal_cli.serve import dataset_service
from xmodal_cli.serve.caption_words import CaptionWords
from xmodal_cli.serve.dataset_request import BrowseRequest
from xmodal_cli.serve.dataset_service import MAX_LOADED, DatasetService

ALL = BrowseRequest("", CaptionWords(""))


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, default_home: None) -> None:
    monkeypatch.setenv("XMODAL_HOME", str(tmp_path / "home"))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the datasets that were read."""
    found, load = list[str](), registry.load_dataset
    monkeypatch.setattr(registry, "load_dataset", lambda name: (found.append(name), load(name))[1])
    return found


def add(folder: Path, name: str, num_images: int = 1) -> Path:
    (folder / name).mkdir()
    for n in range(num_images):
        paint(folder / name / f"{n}.jpg", n, (20, 10))
    registry.add(name, folder / name)
    return folder / name


def test_a_dataset_is_read_once_and_again_when_its_files_have_changed(tmp_path: Path, reads: list[str]) -> None:
    folder, service = add(tmp_path, "mine", 2), DatasetService()
    assert service.browse("mine", ALL).found == service.browse("mine", ALL).found == 2
    (one,) = [service.describe(one) for one in service.known() if one.name == "mine"]
    assert one.facts is not None and one.facts.summary.images == 2 and reads == ["mine"]
    paint(folder / "new.jpg", 9)
    assert service.browse("mine", ALL).found == 3 and reads == ["mine", "mine"]
    other = add(tmp_path, "other")
    registry.add("mine", other)
    assert service.browse("mine", ALL).found == 1


def test_the_datasets_used_last_are_kept_and_the_counts_of_all(tmp_path: Path, reads: list[str]) -> None:
    names, service = [f"d{n}" for n in range(MAX_LOADED + 1)], DatasetService()
    for name in names:
        add(tmp_path, name)
        service.browse(name, ALL)
    assert reads == names
    assert all(service.describe(one).facts for one in service.known() if one.name in names) and reads == names
    service.browse(names[1], ALL)
    assert service.file(names[-1], 0)[0].name == "0.jpg" and reads == names
    service.browse(names[0], ALL)
    assert reads == [*names, names[0]]
    service.browse(names[1], ALL)
    assert reads == [*names, names[0]]


@pytest.mark.parametrize("name", ["/etc", "..", "pics", "./pics", "../pics", "", "pics\0", "shapess"])
def test_only_registered_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: list[str], name: str) -> None:
    paint(add(tmp_path, "pics") / "a.jpg", 0)
    (data_dir() / "registry.json").unlink()
    monkeypatch.chdir(tmp_path)
    for call in (lambda: DatasetService().browse(name, ALL), lambda: DatasetService().file(name, 0)):
        with pytest.raises(UnknownName):
            call()
    assert reads == []


def test_names_without_a_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    service = DatasetService()
    for name, command in (("f8k", "xmodal data get f8k"), ("shapes", "xmodal data info shapes")):
        with pytest.raises(MissingData) as error:
            service.browse(name, ALL)
        assert command in error.value.hint
    assert not (data_dir() / "shapes").exists()  # a request does not generate it
    assert {one.state for one in service.known()} == {"to fetch", "built in"}
    make_shapes(data_dir() / "shapes", num_train=4, num_val=1, num_test=1)
    assert service.browse("shapes", ALL).found == 6
    assert [one.name for one in service.known() if one.state == "present"] == ["shapes"]


def test_a_dataset_that_cannot_be_read_has_an_error(tmp_path: Path) -> None:
    service, folder = DatasetService(), add(tmp_path, "mine")
    (folder / "0.jpg").unlink()
    (one,) = [service.describe(one) for one in service.known() if one.name == "mine"]
    assert one.facts is None and "is empty" in one.error and one.hint
    folder.rmdir()
    (known,) = [one for one in service.known() if one.name == "mine"]
    assert known.state == "missing" and service.describe(known).error == ""
    with pytest.raises(MissingData, match="no longer"):
        service.browse("mine", ALL)


def test_a_list_that_was_replaced_in_the_meantime_is_read_as_its_state(tmp_path: Path, monkeypatch) -> None:
    """A change while a dataset is being read is found by the next request."""
    folder, service = add(tmp_path, "mine"), DatasetService()
    load = registry.load_dataset

    def load_and_change(name: str) -> object:
        found = load(name)
        (folder / "captions.jsonl").write_text(json.dumps({"image": "0.jpg", "caption": "a dog"}))
        os.utime(folder, (5, 5))
        return found

    monkeypatch.setattr(dataset_service.registry, "load_dataset", load_and_change)
    assert service.browse("mine", ALL).facts.summary.captions == 0
    assert service.browse("mine", ALL).facts.summary.captions == 1
