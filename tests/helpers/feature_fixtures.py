"""A backbone that can be checked by hand, images of random pixels, and a tiny real network on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from xmodal_cli.backbones.preprocessing import Preprocessing
from xmodal_cli.types import Example, FeatureMeta, ImageTextDataset


class MeanColorBackbone:
    """Features are the mean red, green and blue: (images, 3)."""

    weights_file = None

    def __init__(self, crops: int = 1) -> None:
        self.preprocessing = Preprocessing(8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), crops)
        self.meta = FeatureMeta("mean-color", "0" * 64, "global", 3, self.preprocessing.facts(), crops)
        self.batches: list[int] = []

    def preprocess(self, image):
        return self.preprocessing.pixels(image)

    def to(self, compute):
        self.dtype = compute.dtype

    def encode(self, pixels):
        self.batches.append(len(pixels))
        return self.preprocessing.normalize(pixels, torch.float32).mean(dim=(2, 3))


@pytest.fixture
def mean_color() -> type[MeanColorBackbone]:
    return MeanColorBackbone


@pytest.fixture
def image_files(tmp_path: Path) -> list[Path]:
    """Twelve images of random pixels; number 3 is empty, number 7 is text."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    files = [folder / f"{n:02d}.png" for n in range(12)]
    for file in files:
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(file)
    files[3].write_bytes(b"")
    files[7].write_text("not an image")
    return files


@pytest.fixture
def dataset(image_files: list[Path], tmp_path: Path) -> ImageTextDataset:
    """The images as a dataset with interleaved splits."""
    examples = tuple(
        Example(f"id{n}", file, (f"caption {n}", f"another {n}"), "test" if n % 3 == 0 else "train")
        for n, file in enumerate(image_files)
    )
    return ImageTextDataset("tiny", "hand", tmp_path, examples)


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a tiny real backbone with random weights in a local file."""
    import timm

    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.save(timm.create_model("test_resnet").state_dict(), file)
    return f"timm/test_resnet@{file}"


@pytest.fixture(scope="session")
def shapes_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small generated dataset with images and captions. Read-only."""
    from xmodal_cli.data.shapes import make_shapes

    return make_shapes(tmp_path_factory.mktemp("shapes") / "shapes", 0, 48, 12, 12)
