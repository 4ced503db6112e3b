"""Damaged and compressed shards: what can be used is read, the rest is a row with its reason."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from helpers.shard_data import add_member

from xmodal_cli.data.reading import read_dataset
from xmodal_cli.errors import BadData


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    file = tmp_path / "pairs" / "train-000.tar"
    file.parent.mkdir()
    for n in range(4):
        add_member(file, f"{n}.jpg", b"x" * 700)
        add_member(file, f"{n}.txt", f"caption {n}".encode())
    return file


def rows(path: Path) -> list[tuple[str, str]]:
    return [(Path(row.where).name, row.reason) for row in read_dataset(path).skipped_rows]


def captions(path: Path) -> dict[str, tuple[str, ...]]:
    return {example.image_id: example.captions for example in read_dataset(path).examples}


def test_a_truncated_shard_has_the_images_before_its_end(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[: 2 * 512 * 5 + 600])  # inside the third image
    assert captions(shard.parent) == {"0": ("caption 0",), "1": ("caption 1",)}
    ((where, reason),) = rows(shard.parent)
    assert where == "train-000.tar"
    assert "is not a readable tar archive" in reason and reason.endswith("4 members before that are used")


def test_a_damaged_shard_is_left_out(shard: Path) -> None:
    shard.with_name("train-001.tar").write_bytes(b"x" * 3000)
    assert len(captions(shard.parent)) == 4
    ((where, reason),) = rows(shard.parent)
    assert where == "train-001.tar" and reason.startswith("is not a readable tar archive")


def test_members_that_cannot_be_used(shard: Path) -> None:
    add_member(shard, "9.txt", b"without an image")
    add_member(shard, "5.jpg", b"")
    add_member(shard, "5.txt", b"\xff\xff")
    add_member(shard, "6.jpg", b"")
    add_member(shard, "6.json", b"[")
    add_member(shard, "7.jpg", b"")
    found = captions(shard.parent)
    assert [found[name] for name in ("3", "5", "6", "7")] == [("caption 3",), (), (), ()]
    assert rows(shard.parent) == [
        ("train-000.tar, member 5.txt", "is not UTF-8 text"),
        ("train-000.tar, member 6.json", rows(shard.parent)[1][1]),
        ("train-000.tar, member 9", "has captions and no image"),
    ]
    assert "is not valid JSON" in rows(shard.parent)[1][1]


def test_compressed_shards(shard: Path) -> None:
    compressed = shard.with_name("train-001.tar.gz")
    compressed.write_bytes(gzip.compress(shard.read_bytes()))
    assert len(captions(shard.parent)) == 4
    ((where, reason),) = rows(shard.parent)
    assert where == "train-001.tar.gz" and reason.startswith("is compressed")
    shard.unlink()
    for path in (compressed, shard.parent):
        with pytest.raises(BadData, match="compressed") as caught:
            read_dataset(path)
        assert "gunzip" in caught.value.hint
