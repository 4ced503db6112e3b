"""Images of a list are located one by one, never as a file of the same name that belongs to another image."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.small_datasets import touch

from xmodal_cli.data.image_files import locate_images
from xmodal_cli.data.reading import read_dataset


def located(root: Path, *names: tuple[str, str], default: str | None = "images") -> list[str]:
    return [path.relative_to(root).as_posix() for path in locate_images(root, names, default)]


@pytest.mark.parametrize("absent", ["0.jpg", "1.jpg", "2.jpg"])
@pytest.mark.parametrize("folder", ["Images", "deep/er"])
def test_one_absent_image_is_one_missing_image(tmp_path: Path, absent: str, folder: str) -> None:
    names = ["0.jpg", "1.jpg", "2.jpg"]
    touch(*(tmp_path / folder / name for name in names if name != absent))
    paths = locate_images(tmp_path, [(name, "train") for name in names])
    assert paths == [tmp_path / folder / name for name in names]
    assert [path.name for path in paths if not path.is_file()] == [absent]


def test_the_folder_of_the_split_comes_first(tmp_path: Path) -> None:
    touch(*(tmp_path / split / f"{n}.jpg" for split in ("train", "dev") for n in range(2)))
    assert located(tmp_path, ("0.jpg", "val"), ("0.jpg", "train"), ("1.jpg", "val")) == [
        *("dev/0.jpg", "train/0.jpg", "dev/1.jpg")
    ]


def test_an_absent_image_is_not_taken_from_the_folder_of_another_split(tmp_path: Path) -> None:
    touch(tmp_path / "train2014" / "0.jpg", tmp_path / "train2014" / "1.jpg", tmp_path / "val2014" / "0.jpg")
    names = [("0.jpg", "train2014"), ("1.jpg", "train2014"), ("0.jpg", "val2014"), ("1.jpg", "val2014")]
    assert located(tmp_path, *names, default=None) == [
        *("train2014/0.jpg", "train2014/1.jpg", "val2014/0.jpg", "val2014/1.jpg")
    ]
    (tmp_path / "val2014" / "0.jpg").unlink()
    assert located(tmp_path, *names, default=None)[2:] == ["val2014/0.jpg", "val2014/1.jpg"]


def test_an_absent_image_is_not_taken_from_a_folder_of_copies(tmp_path: Path) -> None:
    touch(*(tmp_path / "photos" / f"{n}.jpg" for n in (0, 1, 3)))
    touch(*(tmp_path / "small" / f"{n}.jpg" for n in (0, 2, 3)))
    assert located(tmp_path, *((f"{n}.jpg", "") for n in range(4))) == [f"photos/{n}.jpg" for n in range(4)]


def test_images_may_be_in_several_folders(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "0.jpg", tmp_path / "b" / "1.jpg", tmp_path / "2.jpg")
    assert located(tmp_path, ("0.jpg", ""), ("1.jpg", ""), ("2.jpg", "")) == ["a/0.jpg", "b/1.jpg", "2.jpg"]


def test_relative_paths_are_looked_up_by_their_file_names_if_none_exists(tmp_path: Path) -> None:
    touch(tmp_path / "pics" / "0.jpg")
    names = [("coco/val2014/0.jpg", "val"), ("coco/val2014/1.jpg", "val")]
    assert located(tmp_path, *names) == ["pics/0.jpg", "pics/1.jpg"]
    touch(tmp_path / "val2014" / "1.jpg", tmp_path / "x" / "coco" / "val2014" / "1.jpg")
    assert located(tmp_path, *names) == ["x/coco/val2014/0.jpg", "x/coco/val2014/1.jpg"]


def test_a_name_without_suffix_is_that_of_any_image_file(tmp_path: Path) -> None:
    touch(tmp_path / "images" / "17.png", tmp_path / "images" / "17.txt", tmp_path / "images" / "18.JPG")
    assert located(tmp_path, ("17", ""), ("18", ""), ("19", "")) == ["images/17.png", "images/18.JPG", "images/19"]


def test_nothing_exists(tmp_path: Path) -> None:
    assert located(tmp_path / "none", ("a.jpg", "val")) == ["images/a.jpg"]
    assert located(tmp_path, ("a.jpg", "val2014"), default=None) == ["val2014/a.jpg"]


@pytest.mark.parametrize("prefix", ["images\\\\", "sub/images\\\\", "C:\\\\Users\\\\me\\\\images\\\\"])
def test_names_with_the_backslashes_of_windows(tmp_path: Path, prefix: str) -> None:
    for name in ("a.jpg", "b.jpg"):
        touch(tmp_path / "images" / name)
    names = [(f"{prefix}{name}", "") for name in ("a.jpg", "b.jpg")]
    assert locate_images(tmp_path, names) == [tmp_path / "images" / "a.jpg", tmp_path / "images" / "b.jpg"]


def test_a_link_to_itself_hides_no_other_file(tmp_path: Path) -> None:
    touch(tmp_path / "images" / "a.jpg")
    for folder in (tmp_path, tmp_path / "images"):
        (folder / "loop.jpg").symlink_to("loop.jpg")
        (folder / "loop").symlink_to("loop")
    (tmp_path / "c.csv").write_text("image,caption\na.jpg,a dog\n")
    assert located(tmp_path, ("a.jpg", "")) == ["images/a.jpg"]
    assert read_dataset(tmp_path).examples[0].path == tmp_path / "images" / "a.jpg"
    assert read_dataset(tmp_path / "images").format == "folder"
