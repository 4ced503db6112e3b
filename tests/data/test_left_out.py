"""The counts, JSON and lines of files that are left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from xmodal_cli.data import left_out
from xmodal_cli.errors import BadData, BadImage, Category
from xmodal_cli.types import Unreadable


def test_files_are_counted_by_category_and_listed() -> None:
    problems = [Unreadable(Path(f"{n}.cr2"), f"{n}.cr2 cannot be opened", Category.RAW) for n in range(12)]
    problems.append(Unreadable(Path("a.jpg"), "it is damaged"))
    result = json.loads(json.dumps(left_out.to_json(problems)))
    assert (result["total"], result["counts"]) == (13, {"raw": 12, "damaged": 1})
    assert result["files"][-1] == {
        "path": "a.jpg",
        "reason": "it is damaged",
        "category": "damaged",
        "may_change": False,
    }
    lines = left_out.to_lines(result)
    assert lines[0] == "left out: 13 files (12 camera RAW, 1 damaged)"
    assert lines[1] == "  0.cr2 cannot be opened"
    assert lines[-1] == "  and 3 more (use --json to list all)"
    assert left_out.to_lines(left_out.to_json(problems[-1:])) == [
        "left out: 1 file (1 damaged)",
        "  a.jpg: it is damaged",
    ]
    assert left_out.to_lines(left_out.to_json([])) == []


def test_the_packages_that_files_need_are_listed_once() -> None:
    problems = [Unreadable(Path(f"{n}.heic"), "it is HEIC", Category.HEIC) for n in range(12)]
    problems += [Unreadable(Path("a.jxl"), "it is JPEG XL", Category.JXL), Unreadable(Path("b.jpg"), "it is damaged")]
    lines = left_out.to_lines(left_out.to_json(problems))
    heic, jxl = lines[-2:]
    assert heic.startswith("  HEIC without pillow-heif: ") and "pip install" in heic and "pillow-heif, or" in heic
    assert "pillow-jxl-plugin, or save it as JPEG" in jxl
    assert lines[-3].endswith("more (use --json to list all)")


@pytest.mark.parametrize("category", Category)
def test_every_category_has_a_label(category: Category) -> None:
    assert left_out.LABELS[category]


def test_records_copy_the_category_of_an_error() -> None:
    error = BadImage("a.jxl cannot be opened", "", Category.JXL, may_change=True)
    assert Unreadable.of(Path("a.jxl"), error) == Unreadable(Path("a.jxl"), error.message, Category.JXL, True)
    assert Unreadable.of(Path("a.jpg"), BadData("no")) == Unreadable(Path("a.jpg"), "no", Category.DAMAGED, False)
