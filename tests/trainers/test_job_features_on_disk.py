"""Training from features on disk: a resumed run repeats the order; taggers train too."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from xmodal_cli.features import cache, image_features
from xmodal_cli.losses.triplet import Triplet

SETTINGS = ["--set", "features.memory=3e-8", "--set", "training.batch_size=16", "--set", "training.epochs=2"]
NUM, COLORS = 30, ("red", "green", "blue")


@pytest.fixture
def photos(tmp_path, mean_color, monkeypatch):
    """A dataset of photos of one color, whose features are the mean color."""
    for module in (cache, image_features):
        monkeypatch.setattr(module, "build_backbone", lambda *_: mean_color())
    monkeypatch.setattr(cache, "known_facts", lambda _: {})
    images = []
    for n in range(NUM):
        color = np.eye(3, dtype=np.uint8)[n % 3] * (100 + 5 * n)
        Image.fromarray(np.tile(color, (8, 8, 1))).save(tmp_path / f"{n}.png")
        sentences = [{"raw": f"a {COLORS[n % 3]} photo of {word}"} for word in ("day", "a night", "some long year")]
        split = "val" if n % 5 == 0 else "train"
        images.append({"filename": f"{n}.png", "imgid": n, "split": split, "sentences": sentences})
    (tmp_path / "dataset_photos.json").write_text(json.dumps({"dataset": "photos", "images": images}), encoding="utf-8")
    return tmp_path


def train(xmodal, photos, name, *more, preset="vse"):
    run = photos / name
    done = xmodal("train", "--model", preset, "--data", photos, "--out", run, "--device", "cpu", *SETTINGS, *more)
    return run, done


def test_a_resumed_run_is_the_whole_run_byte_for_byte(xmodal, photos, monkeypatch):
    whole, done = train(xmodal, photos, "whole")
    assert done.code == 0, done.err
    assert "(features.memory)" in done.err
    count, forward = 0, Triplet.__call__

    def failing(self, *args):
        nonlocal count
        count += 1
        if count == 7:  # of 5 steps per epoch
            raise KeyboardInterrupt
        return forward(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Triplet, "__call__", failing)
        died, done = train(xmodal, photos, "died")
        assert done.code == 130, done.err
    _, done = train(xmodal, photos, "died", "--resume")
    assert done.code == 0, done.err
    for name in ("metrics.json", "model.safetensors", "last/state.safetensors"):
        assert (died / name).read_bytes() == (whole / name).read_bytes(), name


def test_taggers_train_from_disk(xmodal, photos):
    _, done = train(xmodal, photos, "tagger", "--set", "tagging.min_images=1", preset="tagger")
    assert done.code == 0, done.err
    assert "(features.memory)" in done.err
