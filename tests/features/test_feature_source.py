"""The declared backbone of precomputed features: its shape, and its check on photos of the dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.precomputed import photo_folder, random_backbone, write_precomputed

from xmodal_cli.config import FeaturesConfig
from xmodal_cli.data.reading import read_dataset
from xmodal_cli.device import Compute
from xmodal_cli.errors import BadData, ConfigError, IncompatibleFeatures, MissingData
from xmodal_cli.features.cache import load_features
from xmodal_cli.features.feature_source import MIN_COSINE, declare_source
from xmodal_cli.reporter import SILENT
from xmodal_cli.types import FeatureSource, ImageTextDataset

CPU = Compute("cpu", "fp32")


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    return random_backbone(tmp_path_factory.mktemp("weights"), 0)


@pytest.fixture(scope="session")
def arrays(shapes_images: Path, backbone: str, tmp_path_factory: pytest.TempPathFactory) -> ImageTextDataset:
    """Features of the shapes set in the VSE format. Read-only."""
    folder = tmp_path_factory.mktemp("arrays") / "arrays"
    return read_dataset(write_precomputed(folder, shapes_images, FeaturesConfig(backbone)))


def declare(dataset: ImageTextDataset, backbone: str, photos: Path | None = None, crops: int = 1) -> ImageTextDataset:
    return declare_source(dataset, FeatureSource(backbone, crops), photos, CPU, SILENT)


def test_the_right_backbone_has_a_cosine_of_one(arrays, backbone, shapes_images):
    declared = declare(arrays, backbone, photo_folder(shapes_images))
    assert declared.features_from is not None and declared.features_from.cosine == pytest.approx(1, abs=1e-3)
    unchecked = declare(arrays, backbone)
    assert unchecked.features_from == FeatureSource(backbone, 1, None)


def test_the_declared_features_are_those_of_images(arrays, backbone, shapes_images):
    declared = load_features(declare(arrays, backbone), FeaturesConfig(), CPU)
    extracted = load_features(read_dataset(shapes_images), FeaturesConfig(backbone), CPU)
    assert declared.meta.key() == extracted.meta.key()
    assert load_features(arrays, FeaturesConfig(), CPU).meta.backbone == "precomputed"


def test_other_weights_are_an_error_with_the_cosine(arrays, tmp_path, shapes_images):
    other = random_backbone(tmp_path, 1)
    with pytest.raises(IncompatibleFeatures, match=r"a median cosine of -?0\.[0-4]\d\d to the nearest rows of arrays"):
        declare(arrays, other, photo_folder(shapes_images))
    assert declare(arrays, other).features_from is not None  # without photos nothing is known


def test_photos_of_another_size_are_a_warning(arrays, backbone, shapes_images, tmp_path):
    from PIL import Image

    for n, file in enumerate(sorted(photo_folder(shapes_images).iterdir())[:6]):
        Image.open(file).resize((40, 40)).save(tmp_path / f"{n}.png")
    warned: list[str] = []
    reporter = type("Recorder", (type(SILENT),), {"warn": lambda self, text: warned.append(text)})()
    declared = declare_source(arrays, FeatureSource(backbone), tmp_path, CPU, reporter)
    assert declared.features_from is not None and declared.features_from.cosine is not None
    assert MIN_COSINE < declared.features_from.cosine < 0.95
    assert "the photos have another size" in warned[0]


def test_features_of_another_shape_are_an_error_without_photos(arrays, backbone):
    with pytest.raises(IncompatibleFeatures, match=r"train\.npy has rows of 64 values, and efficientnet-lite2 .* 1280"):
        declare(arrays, "efficientnet-lite2")
    with pytest.raises(ConfigError, match="crops must be"):
        declare(arrays, backbone, crops=3)
    with pytest.raises(ConfigError, match="regions features, not global"):
        declare(arrays, "faster-rcnn-resnet50")
    with pytest.raises(IncompatibleFeatures, match="read from files"):
        declare(arrays, "bottom-up@regions.tsv")


def test_grid_features_are_compared_in_cells_too(shapes_images, backbone, tmp_path):
    folder = write_precomputed(tmp_path / "grid", shapes_images, FeaturesConfig(backbone, "grid"))
    dataset = read_dataset(folder)
    declared = declare(dataset, backbone, photo_folder(shapes_images))
    assert declared.features_from is not None and declared.features_from.cosine == pytest.approx(1, abs=1e-3)
    for file in folder.glob("*.npy"):
        np.save(file, np.load(file)[:, :10])
    with pytest.raises(IncompatibleFeatures, match="has rows of 10 x 64 values"):
        declare(read_dataset(folder), backbone)


def test_what_cannot_be_checked_is_an_error(arrays, backbone, shapes_images, tmp_path):
    with pytest.raises(ConfigError, match="has images"):
        declare(read_dataset(shapes_images), backbone)
    with pytest.raises(MissingData, match="no image"):
        declare(arrays, backbone, tmp_path)
    with pytest.raises(MissingData, match="cannot be read"):
        declare(arrays, backbone, tmp_path / "absent")


def test_values_that_are_not_finite_are_an_error(shapes_images, backbone, tmp_path):
    folder = write_precomputed(tmp_path / "nan", shapes_images, FeaturesConfig(backbone))
    rows = np.load(folder / "dev.npy")
    rows[1, 2] = np.nan
    np.save(folder / "dev.npy", rows)
    with pytest.raises(BadData, match=r"dev\.npy, row 1 "):
        declare(read_dataset(folder), backbone, photo_folder(shapes_images))
