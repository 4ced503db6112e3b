"""The check of the declared features that a model was trained on, after training: ``xmodal models check``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from xmodal_cli.data.fingerprint import fingerprint
from xmodal_cli.data.registry import load_dataset
from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError, MissingData, UnknownName
from xmodal_cli.features.feature_source import declare_source
from xmodal_cli.inference.models import ModelInfo, describe_model
from xmodal_cli.models.model_file import read_tensors, write_model
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.types import FeatureSource, ImageTextDataset


@dataclass(frozen=True)
class CheckedModel:
    """A model whose declared features were compared with those of photos of its dataset."""

    name: str
    path: Path
    features_from: FeatureSource


def check_features(
    what: str, photos: Path, data: str | None = None, compute: Compute = Compute(), reporter: Reporter = SILENT
) -> CheckedModel:
    """Compare the declared features of a model with those of photos, and record their cosine in the model file.

    ``data`` is the dataset it was trained on, by default the one with the registered name. Raises ConfigError for a
    model without declared features or another dataset, and the errors of ``declare_source``.
    """
    info = describe_model(what)
    source = info.header.features_from
    if source is None:
        raise ConfigError(
            f"{info.name} was not trained on precomputed features of a declared backbone",
            "train it again with --features-from BACKBONE",
        )
    dataset = declare_source(_training_data(info, data), source, photos, compute, reporter)
    assert dataset.features_from is not None
    facts = info.header.dataset | {"features_from": asdict(dataset.features_from)}
    write_model(info.path, replace(info.header, dataset=facts), read_tensors(info.path, info.fingerprint))
    return CheckedModel(info.name, info.path, dataset.features_from)


def _training_data(info: ModelInfo, data: str | None) -> ImageTextDataset:
    name = data or str(info.header.dataset.get("name"))
    try:
        dataset = load_dataset(name)
    except (MissingData, UnknownName) as error:
        raise type(error)(error.message, "give the dataset that the model was trained on: --data DATA") from error
    if fingerprint(dataset) != info.header.dataset.get("fingerprint"):
        raise ConfigError(f"{info.name} was not trained on {name}", "give the dataset it was trained on: --data DATA")
    return dataset
