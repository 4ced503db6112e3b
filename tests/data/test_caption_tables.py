"""Caption tables: columns by name, delimiters, encodings, quotes, and rows that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.small_datasets import touch

from xmodal_cli.data.reading import read_dataset
from xmodal_cli.errors import BadData


def captions_of(path: Path) -> dict[str, tuple[str, ...]]:
    return {example.image_id: example.captions for example in read_dataset(path).examples}


RIGHT = {"0.jpg": ("a dog , running", "two cats"), "1.jpg": ("a bird",)}
TABLES = {
    "image,caption": '0.jpg,"a dog , running"\n0.jpg,two cats\n1.jpg,a bird',
    "image_name,comment_number,comment": "0.jpg,0, a dog , running\n0.jpg,1,two cats\n1.jpg,0,a bird",
    "image_name| comment_number| comment": "0.jpg| 0| a dog , running\n0.jpg| 1   two cats\n1.jpg| 0| a bird",
    "image;caption": "0.jpg;a dog , running\n0.jpg;two cats\n1.jpg;a bird",
    "file_name\ttext": "0.jpg\ta dog , running\n0.jpg\ttwo cats\n1.jpg\ta bird",
    ",filename,caption": '0,0.jpg,"a dog , running"\n1,0.jpg,two cats\n2,1.jpg,a bird',
    "Unnamed: 0,Image Name,Sentence": "0,0.jpg,a dog , running\n1,0.jpg,two cats\n2,1.jpg,a bird",
    "image,caption,id": "0.jpg,a dog , running,0\n0.jpg,two cats,0\n1.jpg,a bird,1",
    "raw,sentids,split,filename,img_id": (
        '"[""a dog , running"", ""two cats""]","[0, 1]",test,0.jpg,0\n"[""a bird""]",[2],val,1.jpg,1'
    ),
    '"image","caption_0","caption_1"': '"0.jpg","a dog , running","two cats"\n"1.jpg","a bird",""',
    "comment,path": '"a dog , running",0.jpg\ntwo cats,0.jpg\na bird,1.jpg',
    "image,caption,caption": '0.jpg,"a dog , running",two cats\n1.jpg,a bird,',
    "image,caption,caption.1": '0.jpg,"a dog , running",two cats\n1.jpg,a bird,',  # as pandas writes it
    "sep=;\nimage;caption": "0.jpg;a dog , running\n0.jpg;two cats\n1.jpg;a bird",  # as Excel writes it
    "0.jpg#0\ta dog , running": "0.jpg#1\ttwo cats\n1.jpg#0\ta bird",  # no header
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("header", TABLES)
def test_columns_are_found_by_name(tmp_path: Path, header: str, encoding: str) -> None:
    (tmp_path / "captions.txt").write_text(f"{header}\n{TABLES[header]}\n", encoding=encoding, newline="\r\n")
    touch(tmp_path / "Images" / "0.jpg")
    found = {name: tuple(c for c in captions if c) for name, captions in captions_of(tmp_path).items()}
    assert found == RIGHT
    assert read_dataset(tmp_path).skipped_rows == ()


@pytest.mark.parametrize("name", ["captions.csv", "flickr.csv", "flickr.tsv", "my-annotations.txt"])
def test_names_of_tables(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("image;caption\na.jpg;a dog\n")
    touch(tmp_path / "a.jpg")
    assert captions_of(tmp_path) == captions_of(tmp_path / name) == {"a.jpg": ("a dog",)}


@pytest.mark.parametrize("name", ["captions.csv", "captions.txt", "results.csv", "list.csv", "annotations.tsv"])
def test_an_unknown_header_is_an_error(tmp_path: Path, name: str) -> None:
    touch(tmp_path / "0.jpg")
    (tmp_path / name).write_text("photo_no,words_of_it\n0.jpg,a dog\n")
    with pytest.raises(BadData, match="has an unknown header: 'photo_no,words_of_it'") as caught:
        read_dataset(tmp_path)
    assert "a table needs a column image" in caught.value.hint
    assert "--format folder" in caught.value.hint
    assert read_dataset(tmp_path, "folder").ids == ("0.jpg",)
    with pytest.raises(BadData, match="has an unknown header"):
        read_dataset(tmp_path / name)


def test_ids_are_names_without_suffix(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("image_id,caption\n0017,a dog\n18,a cat\n")
    touch(tmp_path / "images" / "0017.png")
    examples = read_dataset(tmp_path).examples
    assert [(e.image_id, e.path) for e in examples] == [
        ("0017", tmp_path / "images" / "0017.png"),
        ("18", tmp_path / "images" / "18"),
    ]


@pytest.mark.parametrize(
    ("row", "caption"),
    [
        ('0.jpg,"Stop" sign on a street .', '"Stop" sign on a street .'),
        ('0.jpg,a man calls "hi" .', 'a man calls "hi" .'),
        ('0.jpg,"open quote', '"open quote'),
        ('0.jpg,"two\nlines"', "two lines"),
        ('"0.jpg","see ""hi"""', 'see "hi"'),
        ("0.jpg,'single' quotes", "'single' quotes"),
    ],
)
def test_quotes(tmp_path: Path, row: str, caption: str) -> None:
    (tmp_path / "captions.csv").write_text(f'image,caption\n{row}\n1.jpg,a bird\n2.jpg,"a, b"\n')
    assert captions_of(tmp_path) == {"0.jpg": (caption,), "1.jpg": ("a bird",), "2.jpg": ("a, b",)}


def test_a_bad_row_costs_one_row(tmp_path: Path) -> None:
    rows = [b"image,caption", b"0.jpg,a dog", b"1.jpg", b"notes,x", b",no image", b"2.jpg,\xe9t\xe9", b"3.jpg,"]
    (tmp_path / "captions.csv").write_bytes(b"\n".join(rows))
    dataset = read_dataset(tmp_path)
    assert captions_of(tmp_path) == {"0.jpg": ("a dog",), "3.jpg": ("",)}
    lines = [row.where.rpartition(" ")[2] for row in dataset.skipped_rows]
    assert sorted(lines) == ["3", "4", "5", "6"]


def test_imagefolder_metadata_in_the_folders_of_the_splits(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        touch(tmp_path / split / "0001.png")
        (tmp_path / split / "metadata.csv").write_text(f"file_name,text\n0001.png,of {split}\n")
    examples = read_dataset(tmp_path).examples
    assert [(e.image_id, e.split, e.captions, e.path) for e in examples] == [
        (f"{folder}/0001.png", split, (f"of {folder}",), tmp_path / folder / "0001.png")
        for folder, split in (("train", "train"), ("validation", "val"))
    ]
