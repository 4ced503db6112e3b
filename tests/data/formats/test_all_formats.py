"""All dataset formats on small valid datasets, and on the files of Flickr8k if they are available."""

from __future__ import annotations

import inspect
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from helpers.small_datasets import DATASETS, karpathy_image, make, rows_of, touch

from xmodal_cli import catalog
from xmodal_cli.data.fingerprint import fingerprint
from xmodal_cli.data.formats._common import split_by_hash
from xmodal_cli.data.reading import read_dataset
from xmodal_cli.errors import BadData, UnknownName
from xmodal_cli.types import Example, FeatureRow

# ---------------------------------------------------------------------------- the contract


def test_each_format_has_a_small_dataset() -> None:
    assert len(catalog.names("format")) >= 9
    missing = set(catalog.names("format")) - {name.removesuffix("-pipes") for name in DATASETS}
    assert not missing, f"write small datasets of {missing} in tests/helpers/small_datasets.py"


@pytest.mark.parametrize("name", catalog.names("format"))
def test_format_modules_follow_the_contract(name: str, tmp_path: Path) -> None:
    module = catalog.load("format", name)
    assert isinstance(module.PRIORITY, int)
    assert all(suffix.startswith(".") for suffix in getattr(module, "SUFFIXES", ()))
    assert list(inspect.signature(module.matches).parameters) == ["path"]
    assert list(inspect.signature(module.read).parameters) == ["path"]
    for documented in (module, module.matches, module.read):
        assert (documented.__doc__ or "").strip()
    assert module.matches(tmp_path) is False  # an empty folder


def test_priorities_differ() -> None:
    priorities = [catalog.load("format", name).PRIORITY for name in catalog.names("format")]
    assert len(set(priorities)) == len(priorities)


def test_formats_are_detected_and_can_be_given(tiny: tuple[str, Path]) -> None:
    format, folder = tiny
    dataset = read_dataset(folder)
    assert (dataset.format, dataset.name, dataset.source) == (format, "tiny", folder)
    assert all(isinstance(e, Example) and isinstance(e.captions, tuple) for e in dataset.examples)
    assert read_dataset(folder, format.upper().lower(), "other").name == "other"
    assert read_dataset(folder, format).examples == dataset.examples


def test_reading_modifies_no_file(tiny: tuple[str, Path]) -> None:
    def content() -> dict[Path, bytes]:
        return {f: f.read_bytes() for f in tiny[1].rglob("*") if f.is_file()}

    before = content()
    read_dataset(tiny[1])
    assert content() == before


def test_a_format_that_does_not_match_is_an_error(tmp_path: Path) -> None:
    folder = make("folder", tmp_path / "f")
    for name in set(catalog.names("format")) - {"folder"}:
        with pytest.raises(BadData, match="is not in the format") as caught:
            read_dataset(folder, name)
        assert "folder" in caught.value.hint
    with pytest.raises(UnknownName) as unknown:
        read_dataset(folder, "karpaty")
    assert "karpathy" in unknown.value.hint


def test_the_format_with_the_smallest_priority_is_used(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    names = sorted(catalog.names("format"), key=lambda n: -catalog.load("format", n).PRIORITY)
    for name in names:  # all in the same folder
        make(name, folder)
        assert read_dataset(folder).format == name
    assert names[0] == "folder"
    assert names[-1] == "karpathy"


# ---------------------------------------------------------------------------- formats


def test_karpathy(tmp_path: Path) -> None:
    folder = make("karpathy", tmp_path / "k")
    assert rows_of(folder) == [("a.jpg", "train", ("A dog .", "Two dogs run .")), ("b.jpg", "test", ("Ä cat",))]
    assert [e.path for e in read_dataset(folder).examples] == [folder / "photos" / "a.jpg", folder / "photos" / "b.jpg"]
    by_file = read_dataset(folder / "dataset_tiny.json")
    assert (by_file.name, by_file.examples) == ("dataset_tiny", read_dataset(folder).examples)


def test_karpathy_coco_with_restval_file_paths_and_ids(tmp_path: Path) -> None:
    images = [
        karpathy_image("n1.jpg", "restval", "one", filepath="val2014", cocoid=391895),
        karpathy_image("n2.jpg", "test", filepath="train2014", cocoid=5),
    ]
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": images}))
    touch(tmp_path / "coco" / "val2014" / "n1.jpg")
    assert rows_of(tmp_path) == [("391895", "restval", ("one",)), ("5", "test", ())]
    paths = [e.path for e in read_dataset(tmp_path).examples]
    assert paths == [tmp_path / "coco" / "val2014" / "n1.jpg", tmp_path / "coco" / "train2014" / "n2.jpg"]


def test_dataset_metadata_json_is_not_karpathy(tmp_path: Path) -> None:
    make("kaggle", tmp_path)
    (tmp_path / "dataset-metadata.json").write_text("{}")
    assert read_dataset(tmp_path).format == "kaggle"


def test_flickr8k(tmp_path: Path) -> None:
    make("flickr8k", tmp_path)
    assert rows_of(tmp_path) == [
        ("a.jpg", "train", ("A dog .", "Two dogs , running")),
        ("b.jpg", "val", ("A cat",)),
        ("c.jpg", "unused", ("A hat",)),  # in no split list; the invalid name is dropped
    ]
    assert read_dataset(tmp_path).examples[1].path == tmp_path / "Flicker8k_Dataset" / "b.jpg"
    assert rows_of(tmp_path / "Flickr8k.token.txt") == rows_of(tmp_path)


def test_flickr30k_tokens_without_split_lists(tmp_path: Path) -> None:
    names = [f"{n}.jpg" for n in range(400)]
    (tmp_path / "results_20130124.token").write_text("".join(f"{n}#0\ta dog\r\n" for n in names))
    splits = read_dataset(tmp_path).splits
    assert sum(splits.values()) == 400
    assert 250 < splits["train"] < 350
    assert splits["val"] > 20 < splits["test"]
    assert [e.split for e in read_dataset(tmp_path).examples] == [split_by_hash(n) for n in names]


def test_kaggle(tmp_path: Path) -> None:
    make("kaggle", tmp_path)
    captions = {i: c for i, _, c in rows_of(tmp_path)}
    assert captions == {"a.jpg": ("A plain dog .", 'Two dogs, one "hat" , run'), "b.jpg": ("cats , hats, mats",)}
    (tmp_path / "Flickr_8k.testImages.txt").write_text("b.jpg\n")
    assert [(i, s) for i, s, _ in rows_of(tmp_path)] == [("a.jpg", "unused"), ("b.jpg", "test")]


def test_kaggle_flickr30k(tmp_path: Path) -> None:
    make("kaggle-pipes", tmp_path)
    captions = {i: c for i, _, c in rows_of(tmp_path)}
    assert captions == {"a.jpg": ("Two dogs | or more .", '" Stop , " he calls .'), "b.jpg": ("A cat runs",)}


def test_captions_txt_without_a_header_is_not_kaggle(tmp_path: Path) -> None:
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
    annotations = make("coco", tmp_path / "annotations")
    train = {"images": [{"id": 5, "file_name": "five.jpg"}], "annotations": []}
    (annotations / "captions_train2014.json").write_text(json.dumps(train))
    assert [(i, s) for i, s, _ in rows_of(tmp_path)] == [("5", "train"), ("9", "val"), ("4", "val")]
    splits = [{"cocoid": 9, "split": "restval"}, {"cocoid": 4, "split": "test"}]
    (annotations / "dataset_coco.json").write_text(json.dumps({"images": splits}))
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


def test_json_list(tmp_path: Path) -> None:
    make("json-list", tmp_path)
    assert rows_of(tmp_path) == [
        ("photos/a.jpg", "test", ("A dog", "Two dogs")),
        ("photos/b.jpg", "val", ("A cat", "a cat or a hat")),
        ("c.jpg", "val", ("a cat or a hat",)),
    ]
    assert read_dataset(tmp_path).examples[0].path == tmp_path / "photos" / "a.jpg"


def test_table(tmp_path: Path) -> None:
    make("table", tmp_path)
    assert rows_of(tmp_path) == [("a.jpg", "train", ("A dog", "Two dogs")), ("b.jpg", "val", ("A cat",))]


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


def test_vse_with_two_prefixes(tmp_path: Path) -> None:
    for prefix, count in (("f8k", 2), ("coco", 3)):
        np.save(tmp_path / f"{prefix}_train_ims.npy", np.eye(count, 5, dtype=np.float32))
        (tmp_path / f"{prefix}_train_caps.txt").write_text(f"{prefix}\n" * count * 2)
    with pytest.raises(BadData, match="has 2 datasets: coco, f8k") as caught:
        read_dataset(tmp_path)
    for name in ("f8k_train_caps.txt", "coco_train_caps.txt"):
        assert str(tmp_path / name) in caught.value.hint
    for name, count in (("f8k_train_caps.txt", 2), ("f8k_train_ims.npy", 2), ("coco_train_caps.txt", 3)):
        assert read_dataset(tmp_path / name).splits == {"train": count}


@pytest.mark.parametrize(("rows", "captions"), [(3, 4), (4, 3), (0, 4), (4, 0)])
def test_vse_rows_that_do_not_match_the_captions(tmp_path: Path, rows: int, captions: int) -> None:
    np.save(tmp_path / "train.npy", np.ones((rows, 5), np.float32))
    (tmp_path / "train.txt").write_text("a\n" * captions)
    with pytest.raises(BadData, match=f"train.npy has {rows} rows for {captions} captions|cannot be read") as caught:
        read_dataset(tmp_path)
    assert caught.value.hint


@pytest.mark.parametrize("array", [np.array([["a"]]), np.array([[{}]], object), np.ones(4, "f"), np.ones((2, 2), int)])
def test_vse_arrays_that_are_not_features(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "train.npy", array, allow_pickle=True)
    (tmp_path / "train.txt").write_text("a\n" * len(array))
    with pytest.raises(BadData, match=r"train\.npy"):
        read_dataset(tmp_path)


def test_an_npz_archive_named_npy_is_an_error(tmp_path: Path) -> None:
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
        ("0003", "val", ("next to a json without captions",)),
        ("x/0004", "val", ("u", "v")),
    ]
    shard = tmp_path / "tiny-val-000.tar"
    assert [e.path for e in read_dataset(shard).examples] == [
        shard / n for n in ("0001.jpg", "0002.jpg", "0003.png", "x/0004.jpg")
    ]


def test_webdataset_splits_and_repeated_keys(tmp_path: Path) -> None:
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
    rows = rows_of(tmp_path)
    assert [s for _, s, _ in rows] == [split_by_hash(i) for i, _, _ in rows]
    assert {s for _, s, _ in rows} == {"train", "val", "test"}


def test_folder(tmp_path: Path) -> None:
    make("folder", tmp_path)
    assert rows_of(tmp_path) == [("b.jpg", "all", ()), ("in/a.webp", "all", ())]


# ---------------------------------------------------------------------------- fingerprints


def test_fingerprints_depend_on_content_only(tmp_path: Path) -> None:
    one, two = (read_dataset(make("karpathy", tmp_path / name)) for name in ("one", "two"))
    assert fingerprint(one) == fingerprint(two)
    assert fingerprint(one) != fingerprint(one.select("train"))
    file = tmp_path / "two" / "dataset_tiny.json"
    original = file.read_text()
    for old, new in (("A dog .", "A dog"), ("a.jpg", "c.jpg"), ("train", "val")):
        file.write_text(original.replace(old, new))
        assert fingerprint(read_dataset(tmp_path / "two")) != fingerprint(one)


# ---------------------------------------------------------------------------- public datasets


@pytest.mark.realdata
def test_karpathy_and_official_files_of_flickr8k_agree(real_data: Path) -> None:
    karpathy, official = read_dataset(real_data / "f8k"), read_dataset(real_data / "f8k", "flickr8k")
    assert karpathy.format == "karpathy"
    assert karpathy.splits == {"train": 6000, "val": 1000, "test": 1000}
    assert official.splits == {"train": 6000, "val": 1000, "test": 1000, "unused": 91}
    assert len(karpathy.captions) == 40_000
    tokens = (real_data / "f8k" / "Flickr8k.token.txt").read_text(encoding="utf-8").count("\n")
    assert tokens == 40_460
    assert len(official.captions) == tokens - 5  # five have an invalid image name
    examples = {e.image_id: e for e in official.select("train", "val", "test").examples}
    assert examples == {e.image_id: e for e in karpathy.examples}  # ids, paths, splits, captions
    assert all(e.path is not None and e.path.is_file() for e in karpathy.examples[::100])


@pytest.mark.realdata
def test_photos(real_data: Path) -> None:
    photos = read_dataset(real_data / "photos")
    assert (photos.format, photos.splits, len(photos.captions)) == ("folder", {"all": 80}, 0)
