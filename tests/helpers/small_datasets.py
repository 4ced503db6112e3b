"""Writers of small datasets in all formats, and helpers of the format tests."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from xmodal_cli.data.reading import read_dataset

DATASETS = {}  # name -> function that writes a small dataset of that format to a folder
Writer = Callable[[Path], None]


def dataset(write: Writer) -> Writer:
    DATASETS[write.__name__.strip("_").replace("_", "-")] = write
    return write


def touch(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")


def rows_of(path: Path, format: str | None = None) -> list[tuple[str, str, tuple[str, ...]]]:
    """(id, split, captions) of each example."""
    return [(e.image_id, e.split, e.captions) for e in read_dataset(path, format).examples]


# ---------------------------------------------------------------------------- writers


def karpathy_image(name: str, split: str, *captions: str, **fields: object) -> dict[str, object]:
    return {
        "filename": name,
        "split": split,
        "sentences": [{"raw": caption, "tokens": caption.split()} for caption in captions],
        **fields,
    }


@dataset
def _karpathy(folder: Path) -> None:
    images = [
        karpathy_image("a.jpg", "train", "A dog .", " Two dogs run . "),
        karpathy_image("b.jpg", "test", "Ä cat"),
    ]
    (folder / "dataset_tiny.json").write_text(json.dumps({"images": images, "dataset": "tiny"}))
    touch(folder / "photos" / "a.jpg")


@dataset
def _flickr8k(folder: Path) -> None:
    lines = [
        "a.jpg#0\tA dog .",
        "a.jpg#1\tTwo dogs , running",
        "b.jpg#0\t A cat ",
        "c.jpg#0\tA hat",
        "x.jpg.1#0\tbogus",
    ]
    (folder / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    (folder / "Flickr_8k.trainImages.txt").write_text("a.jpg\n")
    (folder / "Flickr_8k.devImages.txt").write_text("b.jpg")
    touch(folder / "Flicker8k_Dataset" / "a.jpg")


@dataset
def _kaggle(folder: Path) -> None:
    lines = [
        "image,caption",
        "a.jpg,A plain dog .",
        'a.jpg,"Two dogs, one ""hat"" , run"',
        "b.jpg,cats , hats, mats",
        "",
    ]
    (folder / "captions.txt").write_text("\n".join(lines))
    touch(folder / "Images" / "a.jpg")


@dataset
def _kaggle_pipes(folder: Path) -> None:
    lines = [
        "image_name| comment_number| comment",
        "a.jpg| 0| Two dogs | or more .",
        'a.jpg| 1| " Stop , " he calls .',
    ]
    lines += ["b.jpg| 4   A cat runs"]  # as in Kaggle's file: one line has no second delimiter
    (folder / "results.csv").write_text("\n".join(lines) + "\n")


@dataset
def _coco(folder: Path) -> None:
    images = [{"id": 9, "file_name": "nine.jpg"}, {"id": 4, "file_name": "four.jpg"}]
    annotations = [
        {"id": i, "image_id": image, "caption": text} for i, (image, text) in enumerate([(4, "four "), (9, "nine")])
    ]
    (folder / "captions_val2014.json").write_text(json.dumps({"images": images, "annotations": annotations}))


@dataset
def _jsonl(folder: Path) -> None:
    entries = [
        {"image": "pics/a.jpg", "captions": ["A dog", " line\u2028inside "], "split": "val"},
        {"image": "b.jpg", "caption": "one", "id": 7},
        {"image": "b.jpg", "caption": "two", "id": 7},
        {"image": "c.jpg"},
    ]
    (folder / "data.jsonl").write_text(
        "\n\n".join(json.dumps(e, ensure_ascii=False) for e in entries), encoding="utf-8"
    )


@dataset
def _json_list(folder: Path) -> None:
    entries = [
        {"image": "photos/a.jpg", "caption": ["A dog", " Two dogs "], "image_id": "coco_1"},
        {"image": "photos/b.jpg", "caption": "A cat", "split": "dev"},
        {"image": ["photos/b.jpg", "c.jpg"], "caption": "a cat or a hat", "split": "validation"},
    ]
    (folder / "tiny_test.json").write_text(json.dumps(entries))


@dataset
def _table(folder: Path) -> None:
    lines = ["id\tFile Name\traw\tsplit", '0\ta.jpg\t["A dog", "Two dogs"]\ttrain', "1\tb.jpg\tA cat\tvalidation"]
    (folder / "pairs.tsv").write_text("\n".join(lines), encoding="utf-16")


@dataset
def _vse(folder: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(4, 3, 100)).astype(np.float32)
    np.save(folder / "train.npy", rows[[0, 0, 1, 2, 2, 2], 0])
    (folder / "train.txt").write_text("a\nb\nc\nd\n e\nf\n")
    np.save(folder / "dev_ims.npy", rows[:2])
    (folder / "dev_caps.txt").write_text("k\nl\u2028l\nm\nn\n", encoding="utf-8")


@dataset
def _webdataset(folder: Path) -> None:
    with tarfile.open(folder / "tiny-val-000.tar", "w") as tar:
        members = {
            "./0001.jpg": b"",
            "0001.txt": b"A dog\n\nTwo dogs \n",
            "0002.jpg": b"",
            "0002.json": b'{"caption": "A cat", "width": 3}',
            "0003.png": b"",
            "0003.json": b'{"width": 3}',
            "0003.txt": b"next to a json without captions",
            "/x//0004.jpg": b"",
            "x/0004.json": b'{"captions": ["u", "v"]}',
        }
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@dataset
def _sidecar(folder: Path) -> None:
    touch(folder / "train" / "a.jpg", folder / "dev" / "deep" / "b.PNG", folder / "more" / "c.jpg")
    (folder / "train" / "a.txt").write_text("A dog\n\n Two dogs \n")
    (folder / "dev" / "deep" / "b.txt").write_text("A cat")


@dataset
def _folder(folder: Path) -> None:
    touch(folder / "b.jpg", folder / "in" / "a.webp", folder / ".hidden" / "x.jpg", folder / "._b.jpg", folder / "n.md")


def make(name: str, folder: Path) -> Path:
    """Write the small dataset ``name`` to ``folder``."""
    folder.mkdir(exist_ok=True)
    DATASETS[name](folder)
    return folder
