"""Pages of the images of a dataset: splits, words, empty and repeated captions, files with problems."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from helpers.served_datasets import (
    DAMAGED,
    EMPTY_CAPTION,
    MISSING,
    NO_CAPTIONS,
    NUM_IMAGES,
    write_features,
    write_tricky,
)
from helpers.served_photos import paint

from xmodal_cli.data.reading import read_dataset
from xmodal_cli.errors import MissingData, UnknownName
from xmodal_cli.serve.browsed_dataset import PAGE, BrowsedDataset, BrowsedPage, browsed_captions, file_version
from xmodal_cli.serve.caption_words import CaptionWords
from xmodal_cli.serve.dataset_request import BrowseRequest, Shown
from xmodal_cli.types import Example


@pytest.fixture(scope="module")
def tricky(tmp_path_factory: pytest.TempPathFactory) -> BrowsedDataset:
    folder = write_tricky(tmp_path_factory.mktemp("browsed") / "tricky")
    return BrowsedDataset(read_dataset(folder, name="tricky"))


def browse(
    dataset: BrowsedDataset, split: str = "", q: str = "", shown: Shown = Shown.ALL, page: int = 1, seconds: float = 60
) -> BrowsedPage:
    return dataset.browse(BrowseRequest(split, CaptionWords(q), shown, page), seconds)


def positions(page: BrowsedPage) -> list[int]:
    return [entry.position for entry in page.entries]


def test_pages_are_the_whole_dataset_in_its_order(tricky: BrowsedDataset) -> None:
    first, second = browse(tricky), browse(tricky, page=2)
    assert positions(first) + positions(second) == list(range(NUM_IMAGES)) and len(first.entries) == PAGE
    assert (first.found, first.pages, first.page, second.page) == (NUM_IMAGES, 2, 1, 2)
    with pytest.raises(MissingData, match="no page 3"):
        browse(tricky, page=3)


def test_a_split_and_its_other_names(tricky: BrowsedDataset) -> None:
    assert positions(browse(tricky, "train")) == list(range(0, NUM_IMAGES, 4))
    assert browse(tricky, "dev") == browse(tricky, "val") and browse(tricky, "val").found == 45
    assert tricky.facts.split_captions == {"train": 4 * 14 + 3, "val": 4 * 44}
    with pytest.raises(UnknownName, match="tset"):
        browse(tricky, "tset")


def test_images_with_all_words_in_one_caption(tricky: BrowsedDataset) -> None:
    assert positions(browse(tricky, q="DOG number 1")) == [1, *range(10, 20)]
    assert positions(browse(tricky, "train", "dog number 1")) == [12, 16]
    assert browse(tricky, q="dog mädchen").found == 0
    assert browse(tricky, q="dog").found == NUM_IMAGES - 1


def test_empty_and_repeated_captions(tricky: BrowsedDataset) -> None:
    page = browse(tricky, shown=Shown.EMPTY_OR_REPEATED)
    assert positions(page) == [EMPTY_CAPTION, NO_CAPTIONS]
    assert [caption.remark for caption in page.entries[0].captions] == ["", "empty", "repeated"]
    omissions = page.facts.summary.omissions
    assert (omissions.missing_images, omissions.empty_captions, omissions.duplicate_captions) == (1, 1, 1)
    assert len(omissions.skipped_rows) == 1
    kept = browsed_captions(Example("a", None, ("x", "x"), "test"), keeps_repeated=True)
    assert [caption.remark for caption in kept] == ["", "repeated, kept"]


def test_files_are_checked_in_steps(tricky: BrowsedDataset) -> None:
    page = browse(tricky, "val", shown=Shown.MISSING, seconds=0)
    assert positions(page) == [MISSING, DAMAGED] and page.checked is not None
    assert (page.checked.files, page.checked.done) == (45, 45)
    assert page.checked.counts == {"not_an_image": 1, "missing": 1}
    first, second = (entry.problem or {} for entry in page.entries)
    assert "does not exist" in first["reason"] and second["category"] == "not_an_image"
    assert browse(tricky, "train", shown=Shown.MISSING).found == 0
    assert positions(browse(tricky, "val", f"number {DAMAGED}", Shown.MISSING)) == [DAMAGED]


def test_files_of_images(tricky: BrowsedDataset) -> None:
    good, missing, damaged = (browse(tricky).entries[position] for position in (0, MISSING, DAMAGED))
    assert (good.width, good.height, good.problem) == (60, 40, None)
    path, version = tricky.file(0)
    assert str(path) == good.path and version.startswith(good.v) and len(good.v) == 12
    assert missing.v == "" and damaged.v and (damaged.problem or {})["category"] == "not_an_image"
    for position, message in ((MISSING, "does not exist"), (NUM_IMAGES, "no image 60")):
        with pytest.raises(MissingData, match=message):
            tricky.file(position)


def test_versions_of_files(tmp_path: Path) -> None:
    photo = paint(tmp_path / "a.jpg", 0)
    versions = {file_version(photo)}
    os.utime(photo, (1, 1))
    versions.add(file_version(photo))
    versions.add(file_version(photo.rename(tmp_path / "b.jpg")))
    assert len(versions) == 3 and file_version(photo) == ""


def test_images_in_archives(tmp_path: Path) -> None:
    content = paint(tmp_path / "a.jpg", 0).read_bytes()
    with tarfile.open(tmp_path / "shard-val-0.tar", "w") as tar:
        for name, data in (("1.jpg", content), ("1.txt", b"a dog")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    dataset = BrowsedDataset(read_dataset(tmp_path / "shard-val-0.tar"))
    (entry,) = browse(dataset, "val").entries
    assert (entry.width, entry.height) == (200, 150) and len(entry.v) == 12
    assert dataset.file(0)[0] == tmp_path / "shard-val-0.tar" / "1.jpg"


def test_precomputed_features(tmp_path: Path) -> None:
    dataset = BrowsedDataset(read_dataset(write_features(tmp_path / "features")))
    page = browse(dataset, q="caption 7")
    (entry,) = page.entries
    assert page.facts.precomputed and (entry.path, entry.v, entry.problem, entry.width) == (None, "", None, 0)
    assert [caption.text for caption in entry.captions] == [f"caption {n} of a dog" for n in range(5, 10)]
    checked = browse(dataset, shown=Shown.MISSING)
    assert checked.found == 0 and checked.checked is not None and checked.checked.files == 0
    with pytest.raises(MissingData, match="no image files"):
        dataset.file(0)
