"""Errors of all dataset formats on missing, empty and damaged datasets, with the file and the line or entry."""

from __future__ import annotations

import io
import json
import random
import re
import tarfile
from pathlib import Path

import pytest
from helpers.small_datasets import karpathy_image, make

from xmodal_cli.data.fingerprint import fingerprint
from xmodal_cli.data.reading import read_dataset
from xmodal_cli.errors import BadData, MissingData, XmodalError


def test_paths_without_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="there is no dataset at"):
        read_dataset(tmp_path / "none")
    with pytest.raises(BadData, match="the folder is empty"):
        read_dataset(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "b").write_text("x")
    with pytest.raises(BadData, match=r"no images or captions, only \.txt, files without suffix") as caught:
        read_dataset(tmp_path)
    assert "karpathy" in caught.value.hint
    with pytest.raises(BadData, match="the file is not in a supported format"):
        read_dataset(tmp_path / "a.txt")
    for name in ("n" * 5000, "a\0b"):
        with pytest.raises((BadData, MissingData)):
            read_dataset(tmp_path / name)


def test_the_source_is_the_same_for_all_spellings_of_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make("karpathy", tmp_path / "k")
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    for spelling in (Path("k"), Path("k/../k"), tmp_path / "link"):
        dataset = read_dataset(spelling)
        assert (dataset.source, dataset.examples[0].path) == (folder, folder / "photos" / "a.jpg")
    assert read_dataset(tmp_path / "link").name == "link"


def test_an_image_listed_twice_is_an_error(tmp_path: Path) -> None:
    images = [karpathy_image("a.jpg", "train"), karpathy_image("a.jpg", "test")]
    (tmp_path / "dataset_tiny.json").write_text(json.dumps({"images": images}))
    with pytest.raises(BadData, match=r"names the image a\.jpg twice, in train and test"):
        read_dataset(tmp_path)


WRONG: list[tuple[str, str, bytes, str]] = [
    # dataset, file, its content, pattern of the message
    ("karpathy", "dataset_tiny.json", b'{"images": [', "not valid JSON: .* line 1 column 13"),
    ("karpathy", "dataset_tiny.json", b"[" * 100_000, "not valid JSON"),
    ("karpathy", "dataset_tiny.json", b'{"images": ' + b"9" * 5000 + b"}", "not valid JSON"),
    ("karpathy", "dataset_tiny.json", b"", "not valid JSON"),
    ("karpathy", "dataset_tiny.json", b"[]", "no list of images"),
    ("karpathy", "dataset_tiny.json", b'{"images": []}', "no list of images"),
    ("karpathy", "dataset_tiny.json", b'{"images": [4]}', "image 1 has no 'filename'"),
    ("karpathy", "dataset_tiny.json", b'{"images": [{"filename": "a", "split": "x"}]}', "image 1 has no 'sentences'"),
    ("karpathy", "dataset_tiny.json", b'{"images": [{"filename": "a", "sentences": [1]}]}', "image 1 has no 'raw'"),
    ("karpathy", "dataset_tiny.json", b'{"images": [{"filename": 3}]}', "image 1 has '3' as 'filename'"),
    ("karpathy", "dataset_tiny.json", b'{"images":\n[{"filename": "\xff"}]}', "line 2 is not UTF-8"),
    ("flickr8k", "Flickr8k.token.txt", b"\nb.jpg no tab", r"line 2 is not NAME#NUMBER<tab>caption"),
    ("flickr8k", "Flickr8k.token.txt", b"\n\nb.jpg\ty\nz", r"line 3 is not .*\(2 rows"),
    ("flickr8k", "Flickr8k.token.txt", b"\nb.jpg#0\t\xe9t\xe9", "line 2 is not UTF-8"),
    ("flickr8k", "Flickr8k.token.txt", b"", "contains no captions"),
    ("kaggle", "captions.txt", b"image,caption\nb.jpg", "line 2 has 1 of 2 columns"),
    ("kaggle", "captions.txt", b"image,caption\na dog,x", "line 2 is of 'a dog', not an image file name"),
    ("kaggle", "captions.txt", b"image,caption\na.jpg,\xe9t\xe9", "line 2 is not UTF-8"),
    ("kaggle", "captions.txt", b"image,caption\n", "contains no captions"),
    ("kaggle", "captions.txt", b"image,caption\na.jpg," + b"x" * 200_000, "line 2 is longer than 100,000 characters"),
    ("kaggle-pipes", "results.csv", b"image_name|c|comment\nb.jpg| 0", "line 2 has 2 of 3 columns"),
    ("json-list", "tiny_test.json", b'[{"image": "a.jpg", "caption": 3}]', "entry 1 has '3' as 'caption'"),
    ("json-list", "tiny_test.json", b'[{"image": {}, "caption": "x"}]', "entry 1 has '{}' as 'image'"),
    ("json-list", "tiny_test.json", b'[{"image": "a.jpg", "caption": "x"}', "not valid JSON"),
    ("coco", "captions_val2014.json", b'{"images": [{"id": 1}], "annotations": []}', "image 1 has no 'file_name'"),
    ("coco", "captions_val2014.json", b'{"images": []}', "has no 'annotations'"),
    ("coco", "captions_val2014.json", b"[]", "has no 'images'"),
    (
        "coco",
        "captions_val2014.json",
        b'{"images": [], "annotations": [{"image_id": 1}]}',
        "annotation 1 has no 'caption'",
    ),
    (
        "coco",
        "captions_val2014.json",
        b'{"images": [], "annotations": [{"image_id": 1, "caption": "x"}]}',
        "annotation 1 is of image 1, which is not listed",
    ),
    ("jsonl", "data.jsonl", b"", "is empty"),
    ("jsonl", "data.jsonl", b'\n{"image": ', "line 2 is not valid JSON"),
    ("jsonl", "data.jsonl", b'\n{"captions": []}', "line 2 has no 'image'"),
    ("jsonl", "data.jsonl", b'{"image": "a.jpg", "captions": [3]}', "line 1 has 'captions' that are not strings"),
    ("jsonl", "data.jsonl", b'{"image": "a.jpg", "captions": {}}', "line 1 has '{}' as 'captions'"),
    ("jsonl", "data.jsonl", b"7", "line 1 has no 'image'"),
    (
        "jsonl",
        "data.jsonl",
        b'{"image": "a.jpg"}\n{"image": "a.jpg", "split": "val"}',
        "line 2 gives a.jpg another split",
    ),
    ("vse", "train.txt", b"a\nb\nc\nd\n\xff\nf", "line 5 is not UTF-8"),
    ("vse", "train.npy", b"", "cannot be read as features"),
    ("vse", "dev_ims.npy", b"\x93NUMPY\x01\x00\x0a\x00((((((((((", "cannot be read as features"),
    ("sidecar", "train/a.txt", b"x\n\xff", "line 2 is not UTF-8"),
    ("webdataset", "tiny-val-000.tar", b"x" * 2000, "not a readable tar"),
    ("webdataset", "tiny-val-000.tar", b"", "not a readable tar|contain no images"),
]


@pytest.mark.parametrize(
    ("name", "file", "content", "message"), WRONG, ids=[f"{w[0]}-{i}" for i, w in enumerate(WRONG)]
)
def test_errors_have_the_file_and_the_entry(tmp_path: Path, name: str, file: str, content: bytes, message: str) -> None:
    make(name, tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(BadData, match=re.compile(message, re.DOTALL)) as caught:
        read_dataset(tmp_path, name.removesuffix("-pipes"))
    assert caught.value.hint
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 500
    assert str(tmp_path / file) in caught.value.message or "contain no images" in caught.value.message


@pytest.mark.parametrize(
    ("member", "content", "message"),
    [
        ("1.json", b"{", "is not valid JSON"),
        ("1.json", b"4", "is not a JSON object"),
        ("1.txt", b"\xff", "is not UTF-8"),
    ],
)
def test_errors_in_shards_have_the_member(tmp_path: Path, member: str, content: bytes, message: str) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo(member)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    with pytest.raises(BadData, match=rf"a\.tar, member {member} {message}") as caught:
        read_dataset(tmp_path)
    assert caught.value.hint


@pytest.mark.parametrize(("name", "caption"), [("a.jpg", "\\ud83d"), ("a\\u0000.jpg", "x"), ("\\ud83d.jpg", "x")])
def test_invalid_characters_are_an_error(tmp_path: Path, name: str, caption: str) -> None:
    (tmp_path / "x.jsonl").write_text(f'{{"image": "{name}", "captions": ["{caption}"]}}')
    with pytest.raises(BadData, match="invalid characters") as caught:
        read_dataset(tmp_path)
    caught.value.message.encode()


def test_damaged_files_are_read_or_raise(tiny: tuple[str, Path]) -> None:
    """Each file truncated and with changed bytes: reading returns examples or raises XmodalError, nothing else."""
    format, folder = tiny
    generator = random.Random(format)
    num_errors = 0
    for file in sorted(f for f in folder.rglob("*") if f.is_file() and f.stat().st_size):
        content = file.read_bytes()
        truncated = [content[: generator.randrange(len(content))] for _ in range(12)]
        for damaged in [b"", *truncated, *(_change_bytes(content, generator) for _ in range(40))]:
            file.write_bytes(damaged)
            try:
                dataset = read_dataset(folder, format if generator.random() < 0.5 else None)
            except XmodalError as error:
                num_errors += 1
                assert error.hint
                error.message.encode()
            else:
                assert dataset.examples
                fingerprint(dataset)
        file.write_bytes(content)
    assert num_errors or format == "folder"


def _change_bytes(content: bytes, generator: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(generator.choice((1, 1, 3, 10))):
        damaged[generator.randrange(min(len(damaged), 2000))] = generator.randrange(256)
    return bytes(damaged)
