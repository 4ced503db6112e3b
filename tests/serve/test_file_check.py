"""The check of image files: in steps, the missing ones first."""

from __future__ import annotations

from pathlib import Path

from helpers.served_photos import paint

from xmodal_cli.data.images import ImageReader
from xmodal_cli.errors import Category
from xmodal_cli.serve import file_check
from xmodal_cli.serve.file_check import CheckedFile, FileCheck, check_file
from xmodal_cli.types import Example


def examples(folder: Path) -> list[Example]:
    """Six images: the second is not an image, the fifth is missing, the last has no file."""
    (folder / "1.jpg").write_text("no")
    for n in (0, 2, 3):
        paint(folder / f"{n}.jpg", n)
    paths = [*(folder / f"{n}.jpg" for n in range(5)), None]
    return [Example(str(n), path, (), "val") for n, path in enumerate(paths)]


def test_missing_and_unreadable_files(tmp_path, monkeypatch):
    monkeypatch.setattr(file_check, "_CHUNK", 2)
    check = FileCheck(examples(tmp_path), range(6))
    assert (check.num_files, check.num_checked, check.problems) == (5, 0, {})
    check.advance(0, ImageReader())
    assert check.num_checked == 2 and check.problems[4].category is Category.MISSING
    check.advance(60, ImageReader())
    assert check.num_checked == 5
    assert {p: problem.category for p, problem in check.problems.items()} == {
        1: Category.NOT_AN_IMAGE,
        4: Category.MISSING,
    }
    assert "does not exist" in check.problems[4].reason and str(tmp_path / "1.jpg") in check.problems[1].reason
    check.advance(0, ImageReader())
    assert check.num_checked == 5


def test_only_the_given_images_are_checked(tmp_path):
    check = FileCheck(examples(tmp_path), [0, 4, 5])
    check.advance(60, ImageReader())
    assert check.num_files == check.num_checked == 2 and set(check.problems) == {4}


def test_the_size_of_an_image(tmp_path):
    found = examples(tmp_path)
    assert check_file(found[0], ImageReader()) == CheckedFile(200, 150)
    assert check_file(found[5], ImageReader()) == CheckedFile()
