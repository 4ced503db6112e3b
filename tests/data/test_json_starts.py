"""Content decides the format of caption files, not their names: JSON or JSON Lines, gzipped or not, in any case."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from helpers.small_datasets import touch

from xmodal_cli.data.reading import read_dataset
from xmodal_cli.errors import BadData

ENTRIES = [{"image": "a.jpg", "caption": "a dog"}, {"image": "b.jpg", "caption": "two cats"}]
LIST = json.dumps(ENTRIES)
LINES = "".join(json.dumps(entry) + "\n" for entry in ENTRIES)
TABLE = "image,caption\na.jpg,a dog\nb.jpg,two cats\n"
COCO = json.dumps(
    {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "annotations": [{"image_id": 1, "caption": "a dog"}, {"image_id": 2, "caption": "two cats"}],
    }
)
KARPATHY = json.dumps(
    {
        "images": [
            {"filename": entry["image"], "split": "val", "sentences": [{"raw": entry["caption"]}]} for entry in ENTRIES
        ]
    }
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.jpg"):
        touch(tmp_path / name)
    return tmp_path


def _captions(path: Path) -> list[str]:
    return [caption for example in read_dataset(path).examples for caption in example.captions]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.json", LINES),
        ("c.jsonl", LIST),
        ("c.JSON", LIST),
        ("c.JSONL", LINES),
        ("c.CSV", TABLE),
        ("C.Tsv", TABLE.replace(",", "\t")),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_content_decides(folder: Path, name: str, content: str, packed: bool) -> None:
    file = folder / (f"{name}.gz" if packed else name)
    file.write_bytes(gzip.compress(content.encode()) if packed else content.encode())
    for path in (folder, file):
        assert _captions(path) == ["a dog", "two cats"]


def test_a_file_that_was_decompressed_under_its_name(folder: Path) -> None:
    (folder / "c.csv.gz").write_text(TABLE)
    assert _captions(folder) == ["a dog", "two cats"]


@pytest.mark.parametrize(("content", "split"), [(COCO, "val"), (KARPATHY, "val")])
def test_other_names_of_published_files(folder: Path, content: str, split: str) -> None:
    file = folder / "my_val.json"
    file.write_text(content)
    assert _captions(file) == ["a dog", "two cats"]
    assert set(read_dataset(file).splits) == {split}
    with pytest.raises(BadData, match=r"my_val\.json has captions under another name"):
        read_dataset(folder)


@pytest.mark.parametrize("content", [{"a.jpg": "a dog"}, {"a.jpg": ["a dog"]}, {"data": ENTRIES}])
def test_objects_with_captions_are_not_passed_over(folder: Path, content: object) -> None:
    (folder / "c.json").write_text(json.dumps(content))
    with pytest.raises(BadData, match=r"c\.json has captions"):
        read_dataset(folder)


def test_other_objects_do_not_matter(folder: Path) -> None:
    for n, content in enumerate(({"title": "a.jpg", "description": "a dog"}, {"a.jpg": 3}, {"sizes": [{"w": 1}]})):
        (folder / f"{n}.json").write_text(json.dumps(content))
    assert read_dataset(folder).format == "folder"
