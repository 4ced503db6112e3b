"""Every dataset format on tiny datasets, sound and damaged; Flickr8k's own files where they are at hand."""

from __future__ import annotations

import inspect
import io
import json
import random
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from xmodal_cli import catalog
from xmodal_cli.data.fingerprint import fingerprint
from xmodal_cli.data.formats._common import invented_split
from xmodal_cli.data.reading import read_dataset
from xmodal_cli.errors import BadData, MissingData, UnknownName, XmodalError
from xmodal_cli.types import Example, FeatureRow

DATASETS = {}  # name -> what writes a small dataset of that kind into a folder
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


# ---------------------------------------------------------------------------- small datasets of every kind


def _karpathy_image(name: str, split: str, *raws: str, **more: object) -> dict[str, object]:
    return {
        "filename": name,
        "split": split,
        "sentences": [{"raw": raw, "tokens": raw.split()} for raw in raws],
        **more,
    }


@dataset
def _karpathy(folder: Path) -> None:
    images = [
        _karpathy_image("a.jpg", "train", "A dog .", " Two dogs run . "),
        _karpathy_image("b.jpg", "test", "Ä cat"),
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
def _kaggle_bars(folder: Path) -> None:
    lines = ["image_name| comment_number| comment", "a.jpg| 0| Two dogs | or more .", 'a.jpg| 1| " Stop , " he says .']
    lines += ["b.jpg| 4   A cat runs"]  # as in Kaggle's file: one line lacks the second bar
    (folder / "results.csv").write_text("\n".join(lines) + "\n")


@dataset
def _coco(folder: Path) -> None:
    images = [{"id": 9, "file_name": "nine.jpg"}, {"id": 4, "file_name": "four.jpg"}]
    notes = [
        {"id": i, "image_id": image, "caption": text} for i, (image, text) in enumerate([(4, "four "), (9, "nine")])
    ]
    (folder / "captions_val2014.json").write_text(json.dumps({"images": images, "annotations": notes}))


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
            "0003.txt": b"beside a json without captions",
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


@pytest.fixture(params=DATASETS)
def tiny(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """The kind of a small dataset, and its folder."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    DATASETS[request.param](folder)
    return request.param.removesuffix("-bars"), folder


def make(kind: str, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    DATASETS[kind](folder)
    return folder


# ---------------------------------------------------------------------------- the contract


def test_there_are_at_least_nine_formats_and_each_has_its_small_dataset() -> None:
    assert len(catalog.names("format")) >= 9
    assert {kind.removesuffix("-bars") for kind in DATASETS} == set(catalog.names("format"))


@pytest.mark.parametrize("name", catalog.names("format"))
def test_format_modules_keep_the_contract(name: str, tmp_path: Path) -> None:
    module = catalog.load("format", name)
    assert isinstance(module.PRIORITY, int)
    assert list(inspect.signature(module.matches).parameters) == ["path"]
    assert list(inspect.signature(module.read).parameters) == ["path"]
    for documented in (module, module.matches, module.read):
        assert (documented.__doc__ or "").strip()
    assert module.matches(tmp_path) is False  # an empty folder is in no format


def test_priorities_differ() -> None:
    priorities = [catalog.load("format", name).PRIORITY for name in catalog.names("format")]
    assert len(set(priorities)) == len(priorities)


def test_every_format_is_recognised_and_can_be_forced(tiny: tuple[str, Path]) -> None:
    kind, folder = tiny
    seen = read_dataset(folder)
    assert (seen.format, seen.name, seen.source) == (kind, "tiny", folder)
    assert all(isinstance(e, Example) and isinstance(e.captions, tuple) for e in seen.examples)
    assert read_dataset(folder, kind.upper().lower(), "other").name == "other"
    assert read_dataset(folder, kind).examples == seen.examples


def test_reading_changes_nothing(tiny: tuple[str, Path]) -> None:
    def content() -> dict[Path, bytes]:
        return {f: f.read_bytes() for f in tiny[1].rglob("*") if f.is_file()}

    before = content()
    read_dataset(tiny[1])
    assert content() == before


def test_formats_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    folder = make("folder", tmp_path / "f")
    for name in set(catalog.names("format")) - {"folder"}:
        with pytest.raises(BadData, match="is not in the format") as caught:
            read_dataset(folder, name)
        assert "folder" in caught.value.hint
    with pytest.raises(UnknownName) as unknown:
        read_dataset(folder, "karpaty")
    assert "karpathy" in unknown.value.hint


def test_the_most_telling_format_wins(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    wanted = sorted((n for n in catalog.names("format")), key=lambda n: -catalog.load("format", n).PRIORITY)
    for name in wanted:  # from the plainest to the most telling, each on top of the others
        make(name, folder)
        assert read_dataset(folder).format == name
    assert wanted[0] == "folder"
    assert wanted[-1] == "karpathy"


# ---------------------------------------------------------------------------- what each reads


def test_karpathy(tmp_path: Path) -> None:
    folder = make("karpathy", tmp_path / "k")
    assert rows_of(folder) == [("a.jpg", "train", ("A dog .", "Two dogs run .")), ("b.jpg", "test", ("Ä cat",))]
    assert [e.path for e in read_dataset(folder).examples] == [folder / "photos" / "a.jpg", folder / "photos" / "b.jpg"]
    by_file = read_dataset(folder / "dataset_tiny.json")
    assert (by_file.name, by_file.examples) == ("dataset_tiny", read_dataset(folder).examples)


def test_karpathys_coco_has_restval_folders_and_numbers(tmp_path: Path) -> None:
    images = [
        _karpathy_image("n1.jpg", "restval", "one", filepath="val2014", cocoid=391895),
        _karpathy_image("n2.jpg", "test", filepath="train2014", cocoid=5),
    ]
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": images}))
    touch(tmp_path / "coco" / "val2014" / "n1.jpg")
    assert rows_of(tmp_path) == [("391895", "restval", ("one",)), ("5", "test", ())]
    paths = [e.path for e in read_dataset(tmp_path).examples]
    assert paths == [tmp_path / "coco" / "val2014" / "n1.jpg", tmp_path / "coco" / "train2014" / "n2.jpg"]


def test_other_peoples_json_is_not_taken_for_karpathys(tmp_path: Path) -> None:
    make("kaggle", tmp_path)
    (tmp_path / "dataset-metadata.json").write_text("{}")
    assert read_dataset(tmp_path).format == "kaggle"


def test_flickr8k(tmp_path: Path) -> None:
    make("flickr8k", tmp_path)
    assert rows_of(tmp_path) == [
        ("a.jpg", "train", ("A dog .", "Two dogs , running")),
        ("b.jpg", "val", ("A cat",)),
        ("c.jpg", "unused", ("A hat",)),  # in no list; the bogus name is gone
    ]
    assert read_dataset(tmp_path).examples[1].path == tmp_path / "Flicker8k_Dataset" / "b.jpg"
    assert rows_of(tmp_path / "Flickr8k.token.txt") == rows_of(tmp_path)


def test_flickr30k_tokens_without_lists_have_invented_splits(tmp_path: Path) -> None:
    names = [f"{n}.jpg" for n in range(400)]
    (tmp_path / "results_20130124.token").write_text("".join(f"{n}#0\ta dog\r\n" for n in names))
    splits = read_dataset(tmp_path).splits
    assert sum(splits.values()) == 400
    assert 250 < splits["train"] < 350
    assert splits["val"] > 20 < splits["test"]
    assert [e.split for e in read_dataset(tmp_path).examples] == [invented_split(n) for n in names]


def test_kaggle(tmp_path: Path) -> None:
    make("kaggle", tmp_path)
    captions = {i: c for i, _, c in rows_of(tmp_path)}
    assert captions == {"a.jpg": ("A plain dog .", 'Two dogs, one "hat" , run'), "b.jpg": ("cats , hats, mats",)}
    (tmp_path / "Flickr_8k.testImages.txt").write_text("b.jpg\n")
    assert [(i, s) for i, s, _ in rows_of(tmp_path)] == [("a.jpg", "unused"), ("b.jpg", "test")]


def test_kaggles_flickr30k(tmp_path: Path) -> None:
    make("kaggle-bars", tmp_path)
    captions = {i: c for i, _, c in rows_of(tmp_path)}
    assert captions == {"a.jpg": ("Two dogs | or more .", '" Stop , " he says .'), "b.jpg": ("A cat runs",)}


def test_a_text_called_captions_is_no_table(tmp_path: Path) -> None:
    make("folder", tmp_path)
    (tmp_path / "captions.txt").write_text("my holiday\n")
    assert read_dataset(tmp_path).format == "folder"


def test_coco(tmp_path: Path) -> None:
    make("coco", tmp_path)
    touch(tmp_path / "val2014" / "nine.jpg")
    assert rows_of(tmp_path / "captions_val2014.json") == [("9", "val", ("nine",)), ("4", "val", ("four",))]
    assert [e.path for e in read_dataset(tmp_path).examples] == [
        tmp_path / "val2014" / name for name in ("nine.jpg", "four.jpg")
    ]


def test_coco_annotations_with_karpathys_splits(tmp_path: Path) -> None:
    notes = make("coco", tmp_path / "annotations")
    train = {"images": [{"id": 5, "file_name": "five.jpg"}], "annotations": []}
    (notes / "captions_train2014.json").write_text(json.dumps(train))
    assert [(i, s) for i, s, _ in rows_of(tmp_path)] == [("5", "train"), ("9", "val"), ("4", "val")]
    splits = [{"cocoid": 9, "split": "restval"}, {"cocoid": 4, "split": "test"}]
    (notes / "dataset_coco.json").write_text(json.dumps({"images": splits}))
    assert [(i, s) for i, s, _ in rows_of(tmp_path)] == [("5", "train"), ("9", "restval"), ("4", "test")]
    assert read_dataset(tmp_path).examples[0].path == tmp_path / "train2014" / "five.jpg"


def test_jsonl(tmp_path: Path) -> None:
    make("jsonl", tmp_path)
    assert rows_of(tmp_path) == [
        ("pics/a.jpg", "val", ("A dog", "line\u2028inside")),
        ("7", "train", ("one", "two")),
        ("c.jpg", "train", ()),
    ]
    assert read_dataset(tmp_path).examples[0].path == tmp_path / "pics" / "a.jpg"


def test_jsonl_files_named_after_splits(tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"image": f"{name}.jpg", "captions": "x"}))
    assert read_dataset(tmp_path).splits == {"test": 1, "train": 1, "val": 1}


def test_vse(tmp_path: Path) -> None:
    make("vse", tmp_path)
    assert rows_of(tmp_path) == [
        ("train-0", "train", ("a", "b")),
        ("train-1", "train", ("c",)),
        ("train-2", "train", ("d", "e", "f")),
        ("val-0", "val", ("k", "l\u2028l")),
        ("val-1", "val", ("m", "n")),
    ]
    examples = read_dataset(tmp_path).examples
    assert [e.path for e in examples] == [None] * 5
    train, dev = tmp_path / "train.npy", tmp_path / "dev_ims.npy"
    assert [e.feature for e in examples] == [FeatureRow(train, n) for n in (0, 2, 3)] + [
        FeatureRow(dev, n) for n in (0, 1)
    ]


def test_vse_with_a_prefix(tmp_path: Path) -> None:
    for split in ("train", "test"):
        np.save(tmp_path / f"f8k_{split}_ims.npy", np.eye(2, 70, dtype=np.float32))
        (tmp_path / f"f8k_{split}_caps.txt").write_text("a\nb\nc\nd\n")
    (tmp_path / "notes.txt").write_text("not a split")
    assert read_dataset(tmp_path).splits == {"train": 2, "test": 2}


@pytest.mark.parametrize(("rows", "captions"), [(3, 4), (4, 3), (0, 4), (4, 0)])
def test_vse_rows_that_do_not_fit(tmp_path: Path, rows: int, captions: int) -> None:
    np.save(tmp_path / "train.npy", np.ones((rows, 5), np.float32))
    (tmp_path / "train.txt").write_text("a\n" * captions)
    with pytest.raises(BadData, match=f"train.npy has {rows} rows for {captions} captions|cannot be read") as caught:
        read_dataset(tmp_path)
    assert caught.value.hint


@pytest.mark.parametrize("array", [np.array([["a"]]), np.array([[{}]], object), np.ones(4, "f"), np.ones((2, 2), int)])
def test_vse_arrays_that_are_no_features(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "train.npy", array, allow_pickle=True)
    (tmp_path / "train.txt").write_text("a\n" * len(array))
    with pytest.raises(BadData, match=r"train\.npy"):
        read_dataset(tmp_path)


def test_an_archive_called_npy_is_refused(tmp_path: Path) -> None:
    with open(tmp_path / "train.npy", "wb") as file:
        np.savez(file, a=np.ones((1, 1)))
    (tmp_path / "train.txt").write_text("a")
    with pytest.raises(BadData, match=r"train\.npy cannot be read as features"):
        read_dataset(tmp_path)


def test_webdataset(tmp_path: Path) -> None:
    make("webdataset", tmp_path)
    assert rows_of(tmp_path) == [
        ("0001", "val", ("A dog", "Two dogs")),
        ("0002", "val", ("A cat",)),
        ("0003", "val", ("beside a json without captions",)),
        ("x/0004", "val", ("u", "v")),
    ]
    shard = tmp_path / "tiny-val-000.tar"
    assert [e.path for e in read_dataset(shard).examples] == [
        shard / n for n in ("0001.jpg", "0002.jpg", "0003.png", "x/0004.jpg")
    ]


def test_webdataset_splits_are_words_and_keys_may_repeat(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    for name in ("retrieval-latest-0.tar", "val/000.tar"):
        with tarfile.open(tmp_path / name, "w") as tar:
            tar.addfile(tarfile.TarInfo("1.jpg"))
    assert rows_of(tmp_path / "retrieval-latest-0.tar") == [("1", "train", ())]
    assert rows_of(tmp_path / "val") == [("1", "train", ())]
    (tmp_path / "retrieval-latest-0.tar").rename(tmp_path / "val" / "001.tar")
    assert [(i, s) for i, s, _ in rows_of(tmp_path)] == [("val/000/1", "val"), ("val/001/1", "val")]


def test_sidecar_with_split_folders(tmp_path: Path) -> None:
    make("sidecar", tmp_path)
    assert rows_of(tmp_path) == [
        ("dev/deep/b.PNG", "val", ("A cat",)),
        ("more/c.jpg", "unused", ()),
        ("train/a.jpg", "train", ("A dog", "Two dogs")),
    ]


def test_sidecar_without_split_folders(tmp_path: Path) -> None:
    for n in range(60):
        touch(tmp_path / f"{n}.jpg")
        (tmp_path / f"{n}.txt").write_text("a dog")
    found = rows_of(tmp_path)
    assert [s for _, s, _ in found] == [invented_split(i) for i, _, _ in found]
    assert {s for _, s, _ in found} == {"train", "val", "test"}


def test_bare_folder(tmp_path: Path) -> None:
    make("folder", tmp_path)
    assert rows_of(tmp_path) == [("b.jpg", "all", ()), ("in/a.webp", "all", ())]


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
    images = [_karpathy_image("a.jpg", "train"), _karpathy_image("a.jpg", "test")]
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


# ---------------------------------------------------------------------------- fingerprints


def test_fingerprints_tell_content_not_place(tmp_path: Path) -> None:
    one, two = (read_dataset(make("karpathy", tmp_path / name)) for name in ("one", "two"))
    assert fingerprint(one) == fingerprint(two)
    assert fingerprint(one) != fingerprint(one.select("train"))
    file = tmp_path / "two" / "dataset_tiny.json"
    sound = file.read_text()
    for old, new in (("A dog .", "A dog"), ("a.jpg", "c.jpg"), ("train", "val")):
        file.write_text(sound.replace(old, new))
        assert fingerprint(read_dataset(tmp_path / "two")) != fingerprint(one)


# ---------------------------------------------------------------------------- the real files


@pytest.mark.realdata
def test_flickr8k_reads_the_same_by_karpathy_and_by_the_official_files(real_data: Path) -> None:
    karpathy, official = read_dataset(real_data / "f8k"), read_dataset(real_data / "f8k", "flickr8k")
    assert karpathy.format == "karpathy"
    assert karpathy.splits == {"train": 6000, "val": 1000, "test": 1000}
    assert official.splits == {"train": 6000, "val": 1000, "test": 1000, "unused": 91}
    assert len(karpathy.captions) == 40_000
    tokens = (real_data / "f8k" / "Flickr8k.token.txt").read_text(encoding="utf-8").count("\n")
    assert tokens == 40_460
    assert len(official.captions) == tokens - 5  # the five of the name that is no picture
    same = {e.image_id: e for e in official.select("train", "val", "test").examples}
    assert same == {e.image_id: e for e in karpathy.examples}  # ids, paths, splits, captions as they are written
    assert all(e.path is not None and e.path.is_file() for e in karpathy.examples[::100])


@pytest.mark.realdata
def test_photos(real_data: Path) -> None:
    photos = read_dataset(real_data / "photos")
    assert (photos.format, photos.splits, len(photos.captions)) == ("folder", {"all": 80}, 0)
