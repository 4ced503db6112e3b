"""Order, alignment, bounded memory, and features that do not depend on the batches."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from xmodal_cli.batch_size import BatchSize, BatchSizeWarning
from xmodal_cli.data.images import open_image
from xmodal_cli.device import Compute
from xmodal_cli.features.extraction import (
    MAX_WORKERS,
    NOT_FINITE,
    _encode_images,
    _encode_in_workers,
    _encode_with_prefetch,
    default_batch_size,
    encode_files,
)
from xmodal_cli.types import Unreadable


def extract(paths, backbone, batch_size=None, opener=open_image):
    return list(encode_files(paths, backbone, opener, Compute("cpu", "fp32"), batch_size))


def expected(path):
    resized = Image.open(path).convert("RGB").resize((8, 8), Image.Resampling.BICUBIC)
    return np.asarray(resized, dtype=np.float64).mean(axis=(0, 1)) / 255


@pytest.mark.parametrize("batch_size", [1, 3, 5, 64])
def test_results_are_in_order_with_unreadable_files(image_files, mean_color, batch_size):
    results = extract(image_files, mean_color(), batch_size)
    assert [path for path, _ in results] == image_files
    for index, (path, vector) in enumerate(results):
        if index in (3, 7):
            assert isinstance(vector, Unreadable) and vector.path == path and path.name in vector.reason
        else:
            np.testing.assert_allclose(vector, expected(path), atol=1e-6)


def test_batch_size_is_the_maximum(image_files, mean_color):
    backbone = mean_color()
    extract(image_files, backbone, 4)
    assert sum(backbone.batches) == 10 and max(backbone.batches) == 4


def test_no_files_and_only_unreadable_files(image_files, mean_color):
    assert extract([], mean_color()) == []
    backbone = mean_color()
    assert [type(v) for _, v in extract([image_files[3], image_files[7]], backbone)] == [Unreadable, Unreadable]
    assert backbone.batches == []


def test_features_of_ten_crops_are_the_mean_of_the_single_crops(image_files, mean_color):
    (_, vector), *_ = extract([image_files[0]], mean_color(crops=10))
    side, size = 9, 8
    image = Image.open(image_files[0]).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    corners = [(0, 0), (1, 0), (0, 1), (1, 1), ((side - size) // 2,) * 2]
    crops = [image.crop((x, y, x + size, y + size)) for x, y in corners]
    crops += [crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for crop in crops]
    mean = np.mean([np.asarray(crop, dtype=np.float64).mean(axis=(0, 1)) / 255 for crop in crops], axis=0)
    np.testing.assert_allclose(vector, mean, atol=1e-6)


def test_number_of_decoded_images_in_memory_is_bounded(image_files, mean_color):
    lock, opened = threading.Lock(), 0

    def count_and_open(path):
        nonlocal opened
        with lock:
            opened += 1
        return open_image(path)

    files = [image_files[0]] * 60
    max_batches = 2 + min(torch.get_num_threads(), MAX_WORKERS)  # one per worker, one finished, one being yielded
    for done, _ in enumerate(encode_files(files, mean_color(), count_and_open, Compute("cpu", "fp32"), 4)):
        assert opened <= done + max_batches * 4
    assert opened == 60


@pytest.mark.parametrize("encode", [_encode_in_workers, _encode_with_prefetch])
def test_both_strategies_give_the_same_features_and_restore_the_number_of_threads(image_files, mean_color, encode):
    before = torch.get_num_threads()
    backbone = mean_color(crops=2)
    backbone.to(Compute("cpu", "fp32"))
    batches = iter([image_files[:5], image_files[5:8], image_files[8:]])
    to_features = partial(_encode_images, backbone, lambda features: features[:, ::-1], BatchSize(5, "images"))
    results = list(encode(batches, backbone, open_image, to_features))
    assert [path for path, _ in results] == image_files
    for index, (path, vector) in enumerate(results):
        if index in (3, 7):
            assert isinstance(vector, Unreadable) and vector.path == path and path.name in vector.reason
        else:
            np.testing.assert_allclose(vector, expected(path)[::-1], atol=1e-6)
    assert torch.get_num_threads() == before
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")]


@pytest.fixture
def three_threads() -> Iterator[None]:
    """Not by a patch of the function that reads the number: what restores it would set three for all later tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_each_worker_encodes_its_own_batch(image_files, mean_color, three_threads):
    barrier = threading.Barrier(3, timeout=20)  # breaks unless three batches are encoded at the same time

    class WaitingBackbone(mean_color):
        def encode(self, pixels):
            barrier.wait()
            return super().encode(pixels)

    assert len(extract([image_files[0]] * 6, WaitingBackbone(), 1)) == 6
    assert torch.get_num_threads() == 3


def test_paths_are_read_as_they_are_needed(image_files, mean_color):
    read = []

    def paths():
        for _ in range(100):
            read.append(None)
            yield image_files[0]

    stream = encode_files(paths(), mean_color(), open_image, Compute("cpu", "fp32"), 2)
    next(stream)
    assert len(read) <= 2 * (2 + min(torch.get_num_threads(), MAX_WORKERS))
    stream.close()


def test_closing_the_stream_stops_decoding(image_files, mean_color):
    opened = []

    def count_and_open(path):
        opened.append(path)
        return open_image(path)

    stream = encode_files([image_files[0]] * 100, mean_color(), count_and_open, Compute("cpu", "fp32"), 2)
    next(stream)
    stream.close()
    assert len(opened) <= 2 * (2 + min(torch.get_num_threads(), MAX_WORKERS))
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")]


def test_features_that_are_not_finite_are_unreadable(image_files, mean_color):
    class NaNBackbone(mean_color):
        def encode(self, pixels):
            return super().encode(pixels) * float("nan")

    ((path, result),) = extract([image_files[0]], NaNBackbone())
    assert isinstance(result, Unreadable)
    assert (path, result.reason, result.category) == (image_files[0], NOT_FINITE, "not_finite")


def test_other_errors_are_raised(image_files, mean_color):
    def raise_error(path):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        extract(image_files, mean_color(), opener=raise_error)


def test_default_batch_size_depends_on_device_and_crops():
    assert default_batch_size("cpu") == 8 and default_batch_size("cuda") == 256
    assert default_batch_size("cpu", 10) == 1


def test_batches_that_do_not_fit_in_memory_are_refused_with_a_size_that_fits(monkeypatch):
    import re

    from xmodal_cli.errors import ConfigError
    from xmodal_cli.features import extraction
    from xmodal_cli.types import FeatureMeta

    meta = FeatureMeta("net", "0", "global", 8, {"side": 224})
    monkeypatch.setattr(extraction, "available_bytes", lambda: 10**9)
    extraction.check_batch_size(1_000_000, meta, num_images=4, device="cpu")
    extraction.check_batch_size(1_000_000, meta, num_images=10**6, device="cuda")
    with pytest.raises(ConfigError, match="batches of 1,000,000 images need about") as caught:
        extraction.check_batch_size(1_000_000, meta, num_images=10**7, device="cpu")
    (advised,) = re.findall(r"--batch-size (\d+)$", caught.value.hint)
    extraction.check_batch_size(int(advised), meta, num_images=10**7, device="cpu")


@pytest.mark.parametrize("encode", [_encode_in_workers, _encode_with_prefetch])
def test_batches_that_do_not_fit_in_memory_are_halved(image_files, mean_color, encode, monkeypatch):
    class Small(type(mean_color())):
        def encode(self, pixels):
            if len(pixels) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
            return super().encode(pixels)

    module = "xmodal_cli.features.extraction"
    for name in ("_encode_in_workers", "_encode_with_prefetch"):
        monkeypatch.setattr(f"{module}.{name}", encode)
    with pytest.warns(BatchSizeWarning, match="4 images at once do not fit in memory; continuing with 2"):
        results = extract(image_files, Small(), 5)
    for (path, vector), (expected_path, expected_vector) in zip(
        results, extract(image_files, mean_color()), strict=True
    ):
        assert path == expected_path
        assert type(vector) is type(expected_vector)
        if isinstance(vector, np.ndarray):
            np.testing.assert_allclose(vector, expected_vector, atol=1e-6)
