"""A backbone small enough to check by hand, pictures of plain colours, and a tiny real network on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from xmodal_cli.backbones.preprocessing import Preprocessing
from xmodal_cli.types import Example, FeatureMeta, ImageTextDataset


class ColourBackbone:
    """Features are the mean red, green and blue: (pictures, 3); the tests know what to expect."""

    weights_file = None

    def __init__(self, crops: int = 1) -> None:
        self.preprocessing = Preprocessing(8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), crops)
        self.meta = FeatureMeta("colour", "0" * 64, "global", 3, self.preprocessing.facts(), crops)
        self.batches: list[int] = []

    def preprocess(self, image):
        return self.preprocessing.pixels(image)

    def to(self, device, dtype):
        self.dtype = dtype

    def encode(self, pixels):
        self.batches.append(len(pixels))
        return self.preprocessing.normalize(pixels, torch.float32).mean(dim=(2, 3))


@pytest.fixture
def colour() -> type[ColourBackbone]:
    return ColourBackbone


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Twelve pictures of random pixels; number 3 is empty, number 7 is text."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    files = [folder / f"{n:02d}.png" for n in range(12)]
    for file in files:
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(file)
    files[3].write_bytes(b"")
    files[7].write_text("not a picture")
    return files


@pytest.fixture
def dataset(pictures: list[Path], tmp_path: Path) -> ImageTextDataset:
    """The pictures as a dataset whose splits are interleaved."""
    examples = tuple(
        Example(f"id{n}", file, (f"caption {n}", f"another {n}"), "test" if n % 3 == 0 else "train")
        for n, file in enumerate(pictures)
    )
    return ImageTextDataset("tiny", "hand", tmp_path, examples)


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a tiny real backbone whose random weights lie in a local file."""
    import timm

    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.save(timm.create_model("test_resnet").state_dict(), file)
    return f"timm/test_resnet@{file}"
