"""Every dataset format on what is no dataset, or a damaged one: each is told, with the file and the place."""

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

# ---------------------------------------------------------------------------- nothing, and nonsense


def test_paths_that_are_no_datasets(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="there is no dataset at"):
        read_dataset(tmp_path / "none")
    with pytest.raises(BadData, match="the folder is empty"):
        read_dataset(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "b").write_text("x")
    with pytest.raises(BadData, match=r"no pictures or captions, only \.txt, files without ending") as caught:
        read_dataset(tmp_path)
    assert "karpathy" in caught.value.hint
    with pytest.raises(BadData, match="a file of an unknown kind"):
        read_dataset(tmp_path / "a.txt")
    for odd in ("n" * 5000, "a\0b"):
        with pytest.raises((BadData, MissingData)):
            read_dataset(tmp_path / odd)


def test_one_dataset_has_one_source_however_it_is_spelt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make("karpathy", tmp_path / "k")
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    for spelling in (Path("k"), Path("k/../k"), tmp_path / "link"):
        found = read_dataset(spelling)
        assert (found.source, found.examples[0].path) == (folder, folder / "photos" / "a.jpg")
    assert read_dataset(tmp_path / "link").name == "link"


def test_an_image_listed_twice_is_told(tmp_path: Path) -> None:
    images = [karpathy_image("a.jpg", "train"), karpathy_image("a.jpg", "test")]
    (tmp_path / "dataset_tiny.json").write_text(json.dumps({"images": images}))
    with pytest.raises(BadData, match=r"names the image a\.jpg twice, in train and test"):
        read_dataset(tmp_path)


WRONG: list[tuple[str, str, bytes, str]] = [
    # kind, file, its content, what the message says beside the file's name
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
    (
        "karpathy",
        "dataset_tiny.json",
        b'{"images": [{"filename": "a", "sentences": [], "split": "x"}, {}]}',
        "image 2 has no 'filename'",
    ),
    ("karpathy", "dataset_tiny.json", b'{"images":\n[{"filename": "\xff"}]}', "line 2 is not UTF-8"),
    ("flickr8k", "Flickr8k.token.txt", b"a.jpg#0\tx\nb.jpg no tab", r"line 2 is not NAME#NUMBER<tab>caption"),
    ("flickr8k", "Flickr8k.token.txt", b"a.jpg#0\tx\n\nb.jpg\ty", "line 3 is not"),
    ("flickr8k", "Flickr8k.token.txt", b"a.jpg#0\tx\nb.jpg#0\t\xe9t\xe9", "line 2 is not UTF-8"),
    ("flickr8k", "Flickr8k.token.txt", b"", "holds no captions"),
    ("flickr8k", "Flickr_8k.devImages.txt", b"\xff\xfe", "line 1 is not UTF-8"),
    ("kaggle", "captions.txt", b"image,caption\na.jpg,x\nb.jpg", "line 3 is not a picture's name and a caption"),
    ("kaggle", "captions.txt", b"image,caption\na dog,x", "line 2 is not a picture's name"),
    ("kaggle", "captions.txt", b'image,caption\na.jpg,"x\nb.jpg,y', "line 3 cannot be used: unexpected end"),
    ("kaggle", "captions.txt", b'image,caption\na.jpg,"x" y', "line 2 cannot be used: .*expected after"),
    ("kaggle", "captions.txt", b"image,caption\n", "holds no captions"),
    ("kaggle", "captions.txt", b"image,caption\na.jpg," + b"x" * 200_000, "line 2 cannot be used: field larger"),
    ("kaggle-bars", "results.csv", b"image_name|c|d\na.jpg| 0| x\nb.jpg| 0|", "line 3 is not a picture's name"),
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
    ("jsonl", "data.jsonl", b'{"image": "a.jpg"}\n{"image": ', "line 2 is not valid JSON"),
    ("jsonl", "data.jsonl", b'{"image": "a.jpg"}\n{"captions": []}', "line 2 has no 'image'"),
    ("jsonl", "data.jsonl", b'{"image": "a.jpg", "captions": [3]}', "line 1 has 'captions' that are not texts"),
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
    ("webdataset", "tiny-val-000.tar", b"", "not a readable tar|hold no pictures"),
]


@pytest.mark.parametrize(("kind", "file", "content", "says"), WRONG, ids=[f"{w[0]}-{n}" for n, w in enumerate(WRONG)])
def test_wrong_content_names_the_file_and_the_place(
    tmp_path: Path, kind: str, file: str, content: bytes, says: str
) -> None:
    make(kind, tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(BadData, match=re.compile(says, re.DOTALL)) as caught:
        read_dataset(tmp_path, kind.removesuffix("-bars"))
    assert caught.value.hint
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 500
    assert str(tmp_path / file) in caught.value.message or "hold no pictures" in caught.value.message


@pytest.mark.parametrize(
    ("member", "content", "says"),
    [("1.json", b"{", "is not valid JSON"), ("1.json", b"4", "no.* keys"), ("1.txt", b"\xff", "is not UTF-8")],
)
def test_wrong_members_of_shards_are_named(tmp_path: Path, member: str, content: bytes, says: str) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo(member)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    with pytest.raises(BadData, match=rf"a\.tar, member {member} .*{says}|a\.tar, member {member} {says}") as caught:
        read_dataset(tmp_path)
    assert caught.value.hint


@pytest.mark.parametrize(("name", "caption"), [("a.jpg", "\\ud83d"), ("a\\u0000.jpg", "x"), ("\\ud83d.jpg", "x")])
def test_characters_that_cannot_be_written_are_told(tmp_path: Path, name: str, caption: str) -> None:
    (tmp_path / "x.jsonl").write_text(f'{{"image": "{name}", "captions": ["{caption}"]}}')
    with pytest.raises(BadData, match="characters that are none") as caught:
        read_dataset(tmp_path)
    caught.value.message.encode()


def test_damage_anywhere_is_told_or_harmless(tiny: tuple[str, Path]) -> None:
    """Each file cut at many places and with bytes flipped: reading gives examples or an XmodalError, nothing else."""
    kind, folder = tiny
    chance = random.Random(kind)
    refused = 0
    for file in sorted(f for f in folder.rglob("*") if f.is_file() and f.stat().st_size):
        whole = file.read_bytes()
        cuts = [whole[: chance.randrange(len(whole))] for _ in range(12)]
        for damaged in [b"", *cuts, *(_flipped(whole, chance) for _ in range(40))]:
            file.write_bytes(damaged)
            try:
                read = read_dataset(folder, kind if chance.random() < 0.5 else None)
            except XmodalError as error:
                refused += 1
                assert error.hint
                error.message.encode()
            else:
                assert read.examples
                fingerprint(read)
        file.write_bytes(whole)
    assert refused or kind == "folder"


def _flipped(content: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(chance.choice((1, 1, 3, 10))):
        damaged[chance.randrange(min(len(damaged), 2000))] = chance.randrange(256)
    return bytes(damaged)
