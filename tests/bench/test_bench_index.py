"""The whole of indexing against the bare network: files listed, read, decoded, embedded, kept and put in place, against
forward passes alone on tensors in memory. Same backbone, precision, batches and cores, interleaved.

The lower bound of the time is the network and the decoding of the same photos, with nothing else: where the network is
fast (AMX), decoding is a larger part of it, and the bare network cannot be reached.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from xmodal_cli.data.scan import scan
from xmodal_cli.features.extraction import default_batch_size, encode_files, opener_for
from xmodal_cli.inference.encoding import file_vectors
from xmodal_cli.inference.index_models import to_index_model
from xmodal_cli.inference.matchers import load_matcher
from xmodal_cli.inference.torch_backbones import backbone_of
from xmodal_cli.retrieval.update import IndexRequest, update_index
from xmodal_cli.types import Unreadable

NUM_PHOTOS, ROUNDS = 160, 3
OF_BOUND = 0.9  # of the rate of network and decoding
SIZES = [(500, 375), (375, 500), (500, 333), (640, 480)]

pytestmark = [pytest.mark.bench, pytest.mark.slow]


class InMemory:
    """A types.ImageBackbone with decoded images."""

    def __init__(self, backbone: Any, pixels: dict[Path, torch.Tensor]) -> None:
        self.meta = backbone.meta
        self.weights_file: Path | None = None
        self.preprocess, self.to, self.encode = pixels.__getitem__, backbone.to, backbone.encode


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEGs with as much detail as a camera's."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for n in range(NUM_PHOTOS):
        size = SIZES[n % len(SIZES)]
        coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize(
            size, Image.Resampling.BICUBIC
        )
        fine = rng.normal(0, 6, (size[1], size[0], 3))
        Image.fromarray(np.clip(np.asarray(coarse) + fine, 0, 255).astype(np.uint8)).save(
            folder / f"{n}.jpg", quality=90
        )
    return folder


def test_decoding_and_keeping_hide_behind_the_network(photos, report, seconds, device, tmp_path):
    matcher = load_matcher("starter")
    backbone, dtype = backbone_of(matcher.name, matcher.meta), matcher.compute.dtype
    files = [Path(file.path) for file in scan([photos]).files]
    opener = opener_for(backbone)
    pixels = {path: backbone.preprocess(opener(path)) for path in files}
    card = to_index_model(matcher.info)
    indices = iter(range(1000))

    def embed() -> Any:
        return lambda paths: file_vectors(backbone, matcher.embed_features, matcher.compute, paths)

    def whole() -> None:
        changes = update_index(tmp_path / f"index{next(indices)}", IndexRequest(scan([photos]), card), embed)
        assert changes.num_computed == NUM_PHOTOS

    def each_core() -> None:
        batches = encode_files(
            files, InMemory(backbone, pixels), lambda p: p, matcher.compute, None, matcher.embed_features
        )
        assert sum(not isinstance(vector, Unreadable) for _, vector in batches) == NUM_PHOTOS

    def together() -> None:
        for batch in _batches(files, default_batch_size(device, backbone.meta.crops)):
            features = backbone.encode(torch.cat([pixels[path] for path in batch])).float()
            matcher.embed_features(features.view(len(batch), -1, features.shape[-1]).cpu().numpy())

    def decode() -> None:
        started = time.process_time()
        for path in files:
            backbone.preprocess(opener(path))
        decoding.append((time.process_time() - started) / torch.get_num_threads())

    decoding: list[float] = []
    ways = {"whole": whole, "each core its batch": each_core, "all cores one batch": together, "decoding": decode}
    backbone.to(matcher.compute)
    each_core()  # to warm up
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, call in ways.items():
            times[name].append(seconds(call))
    del times["decoding"]
    rates = {name: NUM_PHOTOS / float(np.median(found)) for name, found in times.items()}
    rate = rates.pop("whole")
    bound = NUM_PHOTOS / (NUM_PHOTOS / max(rates.values()) + float(np.median(decoding)))
    report("indexing, whole", f"{rate:.1f} photos/s in {str(dtype).removeprefix('torch.')}")
    for name, bare in rates.items():
        report(f"bare forward, {name}", f"{bare:.1f} photos/s; indexing is at {rate / bare:.0%}")
    report("network and decoding, all cores busy", f"{bound:.1f} photos/s; indexing is at {rate / bound:.0%}")
    assert rate >= OF_BOUND * bound


def _batches(files: list[Path], size: int) -> Iterator[list[Path]]:
    return (files[start : start + size] for start in range(0, len(files), size))
