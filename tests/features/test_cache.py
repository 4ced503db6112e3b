"""Features are extracted once, also if two commands need them at the same time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from xmodal_cli import file_lock
from xmodal_cli.config import FeaturesConfig
from xmodal_cli.device import Compute
from xmodal_cli.features import cache
from xmodal_cli.reporter import SilentReporter
from xmodal_cli.types import Example, ImageTextDataset


class Messages(SilentReporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, message: str) -> None:
        self.lines.append(message)


def test_a_second_writer_waits_and_extracts_nothing(image_files, mean_color, tmp_path, monkeypatch):
    monkeypatch.setattr(file_lock, "_REPORT_SECONDS", 0.0)
    examples = tuple(Example(str(n), path, ("a",), "train") for n, path in enumerate(image_files))
    dataset = ImageTextDataset("d", "folder", tmp_path, examples)
    waiting, encoded = threading.Event(), []

    def build(*_):
        backbone = mean_color()
        encode = backbone.encode

        def encode_slowly(pixels):
            assert waiting.wait(60)  # until the other writer has found the store locked
            encoded.append(len(pixels))
            return encode(pixels)

        backbone.encode = encode_slowly
        return backbone

    class Waiting(Messages):
        def info(self, message: str) -> None:
            super().info(message)
            waiting.set()

    monkeypatch.setattr(cache, "build_backbone", build)
    monkeypatch.setattr(cache, "known_facts", lambda _: {})
    monkeypatch.setattr(cache, "check_request", lambda *_: None)
    settings, reporters = FeaturesConfig(backbone="mean-color"), (Waiting(), Waiting())

    def extract(reporter):
        return cache.ensure_store(dataset, tmp_path / "store", settings, Compute("cpu", "fp32"), reporter)

    with ThreadPoolExecutor(2) as pool:
        (first, num_first), (second, num_second) = pool.map(extract, reporters)
    readable = len(image_files) - 2
    assert sorted((num_first, num_second)) == [0, len(image_files)]
    assert sum(encoded) == readable
    assert first.ids == second.ids
    np.testing.assert_array_equal(np.concatenate(first.shards), np.concatenate(second.shards))
    (message,) = (line for reporter in reporters for line in reporter.lines)
    assert "is being written by another xmodal process" in message and "waiting" in message
    assert not (tmp_path / "store" / ".lock").exists()
