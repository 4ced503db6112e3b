"""Order, alignment, bounded memory, and numbers that do not depend on how pictures are batched."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from PIL import Image

from xmodal_cli.data.images import open_image
from xmodal_cli.device import Compute
from xmodal_cli.features.extraction import (
    MAX_WORKERS,
    NOT_FINITE,
    _core_by_core,
    _decoded_ahead,
    default_batch_size,
    encode_files,
)
from xmodal_cli.types import Unreadable


def extract(paths, backbone, batch_size=None, opener=open_image):
    return list(encode_files(paths, backbone, opener, Compute("cpu", "fp32"), batch_size))


def expected(path):
    square = Image.open(path).convert("RGB").resize((8, 8), Image.Resampling.BICUBIC)
    return np.asarray(square, dtype=np.float64).mean(axis=(0, 1)) / 255


@pytest.mark.parametrize("batch_size", [1, 3, 5, 64])
def test_order_and_alignment_with_unreadable_files_in_between(pictures, colour, batch_size):
    results = extract(pictures, colour(), batch_size)
    assert [path for path, _ in results] == pictures
    for number, (path, vector) in enumerate(results):
        if number in (3, 7):
            assert isinstance(vector, Unreadable) and vector.path == path and path.name in vector.reason
        else:
            np.testing.assert_allclose(vector, expected(path), atol=1e-6)


def test_batches_hold_as_many_pictures_as_asked(pictures, colour):
    backbone = colour()
    extract(pictures, backbone, 4)
    assert sum(backbone.batches) == 10 and max(backbone.batches) == 4


def test_nothing_comes_of_nothing_and_of_unreadable_files_alone(pictures, colour):
    assert extract([], colour()) == []
    backbone = colour()
    assert [type(v) for _, v in extract([pictures[3], pictures[7]], backbone)] == [Unreadable, Unreadable]
    assert backbone.batches == []


def test_ten_crops_are_the_mean_of_the_single_crops(pictures, colour):
    (_, vector), *_ = extract([pictures[0]], colour(crops=10))
    side, size = 9, 8
    whole = Image.open(pictures[0]).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    corners = [(0, 0), (1, 0), (0, 1), (1, 1), ((side - size) // 2,) * 2]
    crops = [whole.crop((x, y, x + size, y + size)) for x, y in corners]
    crops += [crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for crop in crops]
    slow = np.mean([np.asarray(crop, dtype=np.float64).mean(axis=(0, 1)) / 255 for crop in crops], axis=0)
    np.testing.assert_allclose(vector, slow, atol=1e-6)


def test_no_more_than_three_batches_are_in_memory(pictures, colour):
    lock, opened = threading.Lock(), 0

    def counting(path):
        nonlocal opened
        with lock:
            opened += 1
        return open_image(path)

    many = [pictures[0]] * 60
    ahead = 2 + min(torch.get_num_threads(), MAX_WORKERS)  # batches: one for each core, one done, one being taken
    for done, _ in enumerate(encode_files(many, colour(), counting, Compute("cpu", "fp32"), 4)):
        assert opened <= done + ahead * 4
    assert opened == 60


@pytest.mark.parametrize("way", [_core_by_core, _decoded_ahead])
def test_both_ways_give_the_same_and_leave_the_number_of_threads(pictures, colour, way):
    before = torch.get_num_threads()
    backbone = colour(crops=2)
    backbone.to("cpu", torch.float32)
    batches = iter([pictures[:5], pictures[5:8], pictures[8:]])
    results = list(way(batches, backbone, open_image, lambda features: features[:, ::-1]))
    assert [path for path, _ in results] == pictures
    for number, (path, vector) in enumerate(results):
        if number in (3, 7):
            assert isinstance(vector, Unreadable) and vector.path == path and path.name in vector.reason
        else:
            np.testing.assert_allclose(vector, expected(path)[::-1], atol=1e-6)
    assert torch.get_num_threads() == before
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")]


def test_each_core_carries_its_own_batch(pictures, colour, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    together = threading.Barrier(3, timeout=20)  # breaks unless three batches are computed at the same time

    class Meeting(colour):
        def encode(self, pixels):
            together.wait()
            return super().encode(pixels)

    assert len(extract([pictures[0]] * 6, Meeting(), 1)) == 6


def test_paths_are_taken_as_they_are_needed(pictures, colour):
    taken = []

    def coming():
        for _ in range(100):
            taken.append(None)
            yield pictures[0]

    stream = encode_files(coming(), colour(), open_image, Compute("cpu", "fp32"), 2)
    next(stream)
    assert len(taken) <= 2 * (2 + min(torch.get_num_threads(), MAX_WORKERS))
    stream.close()


def test_closing_the_stream_early_stops_the_decoding(pictures, colour):
    opened = []

    def counting(path):
        opened.append(path)
        return open_image(path)

    stream = encode_files([pictures[0]] * 100, colour(), counting, Compute("cpu", "fp32"), 2)
    next(stream)
    stream.close()
    assert len(opened) <= 2 * (2 + min(torch.get_num_threads(), MAX_WORKERS))
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")]


def test_features_that_are_not_finite_are_told(pictures, colour):
    class Broken(colour):
        def encode(self, pixels):
            return super().encode(pixels) * float("nan")

    assert extract([pictures[0]], Broken()) == [(pictures[0], Unreadable(pictures[0], NOT_FINITE))]


def test_an_error_that_is_no_bad_picture_is_raised(pictures, colour):
    def failing(path):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        extract(pictures, colour(), opener=failing)


def test_more_crops_make_smaller_batches():
    assert default_batch_size("cpu") == 8 and default_batch_size("cuda") == 256
    assert default_batch_size("cpu", 10) == 1
