"""Merging: few segments, few deleted vectors, and little rewriting per added photo."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from xmodal_cli.retrieval import merging
from xmodal_cli.retrieval.merging import ALWAYS, FANOUT, LARGEST, choose_group
from xmodal_cli.retrieval.segments import Segment
from xmodal_cli.retrieval.vectors import Layout
from xmodal_cli.retrieval.writer import MIN_SORTED

if TYPE_CHECKING:
    import pytest
    from helpers.index_fixtures import PhotoIndexFixture


def _segment(key: int, count: int, num_deleted: int = 0) -> Segment:
    deleted = b"" if num_deleted else None
    return Segment(key, Layout("fp16", count, 8), "", num_deleted=num_deleted, deleted=deleted)


def _simulate(sizes: list[int]) -> tuple[list[int], int]:
    """The sizes of the segments after updates that add ``sizes`` photos, and the number of rewritten vectors."""
    found, rewritten = list[Segment](), 0
    for key, size in enumerate(sizes):
        found.append(_segment(key, size))
        while group := choose_group(found, max(ALWAYS, FANOUT * size)):
            total = sum(segment.num_live for segment in group)
            assert total <= max(ALWAYS, FANOUT * size)
            rewritten += total
            found = [segment for segment in found if segment not in group] + [_segment(10**6 + key, total)]
    return [segment.num_live for segment in found], rewritten


def test_photos_that_are_added_one_by_one() -> None:
    sizes, rewritten = _simulate([1] * 20_000)
    assert len(sizes) <= 3 * 8
    assert rewritten <= 8 * 20_000


def test_a_large_update_in_batches() -> None:
    sizes, rewritten = _simulate([512] * 20)
    assert len(sizes) <= 3 * 2
    assert rewritten <= 3 * 512 * 20


def test_a_small_update_does_not_rewrite_a_large_index() -> None:
    large = [_segment(key, 100_000) for key in range(8)]
    assert choose_group([*large, _segment(9, 1)], ALWAYS) == []
    assert choose_group(large, 8 * 100_000) == large
    assert choose_group([_segment(key, LARGEST) for key in range(8)], 8 * LARGEST) == []


def test_segments_of_an_index_with_cells_are_sorted() -> None:
    small, sorted_ = _segment(0, MIN_SORTED - 1), replace(_segment(1, 10 * ALWAYS), cells=7)
    unsorted = _segment(2, 10 * ALWAYS)
    assert choose_group([small, sorted_, unsorted], 1, has_cells=False) == []
    assert choose_group([small, sorted_, unsorted], 1, has_cells=True) == [unsorted]
    assert choose_group([small, sorted_], 1, has_cells=True) == []


def test_a_segment_of_mostly_deleted_vectors_is_rewritten_alone() -> None:
    mostly = _segment(1, 1000, 501)
    assert choose_group([_segment(0, 1000, 500), mostly], ALWAYS) == [mostly]


def test_merged_segments_have_all_vectors(photo_index: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "FANOUT", 2)
    for i in range(23):
        photo_index.add(f"{(7 * i) % 23:03}.jpg")
        if i % 5 == 4:
            (photo_index.photos / f"{(7 * (i - 2)) % 23:03}.jpg").unlink()
        photo_index.update()
        photo_index.check()
    assert len(photo_index.segments()) <= 5
    assert photo_index.num_loads == 23
