"""A small set of images whose features are written as a dataset in the VSE format, as users have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from xmodal_cli.config import FeaturesConfig
from xmodal_cli.data.reading import read_dataset
from xmodal_cli.device import Compute
from xmodal_cli.features.cache import load_features

FILES = {"train": "train", "val": "dev", "test": "test"}


def write_precomputed(folder: Path, images: Path, settings: FeaturesConfig) -> Path:
    """``train.npy`` and ``train.txt`` and so on, with one row per image, of the dataset ``images``."""
    folder.mkdir()
    dataset = read_dataset(images)
    for split, name in FILES.items():
        part = dataset.select(split)
        values = load_features(part, settings, Compute("cpu", "fp32")).values
        np.save(folder / f"{name}.npy", np.asarray(values, np.float32))
        (folder / f"{name}.txt").write_text("\n".join(part.captions) + "\n", encoding="utf-8")
    return folder


def photo_folder(images: Path) -> Path:
    """The image files of the generated set."""
    return images / "images"


def random_backbone(folder: Path, seed: int) -> str:
    """The name of a tiny network with random weights in a local file; features of different images are different."""
    import timm
    import torch

    torch.manual_seed(seed)
    network = timm.create_model("test_vit")
    for parameter in network.parameters():  # as they are initialized, features vary in a few directions only
        parameter.data += 0.3 * torch.randn_like(parameter)
    file = folder / f"random-{seed}.pth"
    torch.save(network.state_dict(), file)
    return f"timm/test_vit@{file}"
