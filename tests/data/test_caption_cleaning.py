"""Empty and repeated captions are left out of training and evaluation, and counted, in every format."""

from __future__ import annotations

import gzip
import json
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from helpers.small_datasets import karpathy_image, touch

from xmodal_cli.data.caption_cleaning import CaptionCounts, clean_captions, count_left_out
from xmodal_cli.data.reading import read_dataset
from xmodal_cli.data.selection import select_captioned
from xmodal_cli.types import Example, ImageTextDataset

CAPTIONS = ["a dog", "", "two  dogs", " \t", "a dog", "two dogs "]


def _jsonl(folder: Path) -> None:
    (folder / "x.jsonl").write_text(json.dumps({"image": "a.jpg", "captions": CAPTIONS}))


def _json_list(folder: Path) -> None:
    entries = [{"image": "a.jpg", "caption": caption} for caption in CAPTIONS]
    (folder / "train.json.gz").write_bytes(gzip.compress(json.dumps(entries).encode()))


def _karpathy(folder: Path) -> None:
    images = {"images": [karpathy_image("a.jpg", "train", *CAPTIONS)]}
    (folder / "dataset_x.json").write_text(json.dumps(images))


def _flickr8k(folder: Path) -> None:
    lines = [f"a.jpg#{n}\t{caption}" for n, caption in enumerate(CAPTIONS)]
    (folder / "x.token").write_text("\n".join(lines))
    (folder / "x.trainImages.txt").write_text("a.jpg")


def _kaggle(folder: Path) -> None:
    (folder / "captions.txt").write_text("\n".join(["image,caption", *(f"a.jpg,{c}" for c in CAPTIONS)]))
    (folder / "x.trainImages.txt").write_text("a.jpg")


def _coco(folder: Path) -> None:
    annotations = [{"image_id": 1, "caption": caption} for caption in CAPTIONS]
    content = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": annotations}
    (folder / "captions_train.json").write_text(json.dumps(content))


def _vse(folder: Path) -> None:
    np.save(folder / "train_ims.npy", np.ones((1, 4), np.float32))
    (folder / "train_caps.txt").write_text("".join(f"{caption}\n" for caption in CAPTIONS))


def _sidecar(folder: Path) -> None:
    touch(folder / "train" / "a.jpg")
    (folder / "train" / "a.txt").write_text("".join(f"{caption}\n" for caption in CAPTIONS))


def _webdataset(folder: Path) -> None:
    with tarfile.open(folder / "train.tar", "w") as tar:
        for name, content in (("a.jpg", b""), ("a.json", json.dumps({"captions": CAPTIONS}).encode())):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, BytesIO(content))


WRITERS = [_jsonl, _json_list, _karpathy, _flickr8k, _kaggle, _coco, _vse, _sidecar, _webdataset]


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__.strip("_"))
def test_every_format(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path)
    dataset = read_dataset(tmp_path)
    assert select_captioned(dataset, "train").captions == ["a dog", "two  dogs"]
    counts = count_left_out(dataset.examples)
    assert counts.duplicate == 2
    assert counts.empty == (0 if write is _sidecar else 2)  # empty lines separate the captions of a text file


def test_clean_captions() -> None:
    assert clean_captions(["", "  ", "\n"]) == ()
    assert clean_captions(["b", "a", "b"]) == ("b", "a")
    assert clean_captions(["A", "a"]) == ("A", "a")
    assert count_left_out(()) == CaptionCounts(0, 0)


def test_repeated_captions_of_published_splits_are_kept() -> None:
    captions = ("a dog", "a dog", "a cat", "two cats", "a bird")
    examples = [Example(str(i), None, captions, split) for split in ("test", "val") for i in range(1000)]
    published = ImageTextDataset("x", "karpathy", Path("x"), tuple(examples))
    assert len(select_captioned(published, "test").captions) == 5000
    assert count_left_out(published.examples) == CaptionCounts(0, 0, 2000)
    smaller = ImageTextDataset("x", "karpathy", Path("x"), tuple(examples[1:]))
    assert len(select_captioned(smaller, "test").captions) == 999 * 4
    assert count_left_out(smaller.examples) == CaptionCounts(0, 999, 1000)
