"""Caption files that no format reads are an error, never a folder of images without captions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.hinted_commands import hinted_commands
from helpers.small_datasets import touch

from xmodal_cli.data.reading import read_dataset
from xmodal_cli.errors import BadData


def test_a_list_with_unknown_keys(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg")
    (tmp_path / "pairs.json").write_text(json.dumps([{"frame_no": 3, "caption": "a dog"}]))
    for path in (tmp_path, tmp_path / "pairs.json"):
        with pytest.raises(BadData, match=r"pairs\.json is a list of entries with the keys frame_no, caption"):
            read_dataset(path)


def test_generated_captions_are_not_a_dataset(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg")
    (tmp_path / "results.json").write_text(json.dumps([{"image_id": 3, "caption": "a dog"}]))
    assert read_dataset(tmp_path).format == "folder"
    with pytest.raises(BadData, match="is a results file") as error:
        read_dataset(tmp_path / "results.json")
    assert hinted_commands(error.value.hint) == [["eval", str(tmp_path / "results.json"), "--data", "DATA"]]


@pytest.mark.parametrize(
    ("name", "content"),
    [("notes.txt", "a;b"), ("exif.json", '{"caption": "x"}'), ("list.json", "[1, 2]"), ("empty.csv", "")],
)
def test_other_files_do_not_matter(tmp_path: Path, name: str, content: str) -> None:
    touch(tmp_path / "a.jpg")
    (tmp_path / name).write_text(content)
    assert read_dataset(tmp_path).format == "folder"
