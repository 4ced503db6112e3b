"""Images are decoded once to find the unreadable ones, until a file or a setting changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.shard_data import add_member, write_folders, write_shards

from xmodal_cli.data import unreadable_images
from xmodal_cli.data.reading import read_dataset
from xmodal_cli.data.unreadable_images import drop_unreadable_images
from xmodal_cli.types import ImageTextDataset


@pytest.fixture(params=[write_folders, write_shards], ids=["folders", "shards"])
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> ImageTextDataset:
    """A dataset with one damaged image."""
    root = request.param(tmp_path / "pairs")
    if (root / "val").exists():
        (root / "val" / "bad.png").write_bytes(b"not an image")
    else:
        add_member(root / "val-000.tar", "bad.png", b"not an image")
    return read_dataset(root)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The images that are decoded."""
    seen: list[Path] = []
    original = unreadable_images.open_image

    def noting(path: Path, max_side: int) -> object:
        seen.append(path)
        return original(path, max_side)

    monkeypatch.setattr(unreadable_images, "open_image", noting)
    return seen


def test_unchanged_images_are_decoded_once(dataset: ImageTextDataset, decoded: list[Path]) -> None:
    first = drop_unreadable_images(dataset)
    assert len(decoded) == len(dataset.examples) == len(first.examples) + 1
    assert drop_unreadable_images(dataset) == first
    assert len(decoded) == len(dataset.examples)


def test_changed_images_and_settings_are_checked_again(
    dataset: ImageTextDataset, decoded: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    drop_unreadable_images(dataset)
    path = dataset.examples[0].path
    assert path is not None
    file = path if path.is_file() else path.parent
    os.utime(file, ns=(1, 1))
    drop_unreadable_images(dataset)
    assert len(decoded) == 2 * len(dataset.examples)
    monkeypatch.setenv("XMODAL_STRICT", "1")
    drop_unreadable_images(dataset)
    assert len(decoded) == 3 * len(dataset.examples)


@pytest.mark.parametrize("content", [b"", b"{", b'{"unreadable": {"999": "x"}}', b'{"unreadable": 1}'])
def test_a_damaged_record_is_replaced(
    dataset: ImageTextDataset, decoded: list[Path], home: Path, content: bytes
) -> None:
    first = drop_unreadable_images(dataset)
    (record,) = home.glob("cache/image-checks/*.json")
    good = record.read_bytes()
    record.write_bytes(content)
    assert drop_unreadable_images(dataset) == first
    assert len(decoded) == 2 * len(dataset.examples)
    assert record.read_bytes() == good


def test_reasons_that_may_change_are_not_remembered(dataset: ImageTextDataset, decoded: list[Path]) -> None:
    path = dataset.examples[0].path
    assert path is not None
    if not path.is_file():
        pytest.skip("members of shards cannot be deleted")
    path.unlink()
    drop_unreadable_images(dataset)
    drop_unreadable_images(dataset)
    assert len(decoded) == 2 * len(dataset.examples)
