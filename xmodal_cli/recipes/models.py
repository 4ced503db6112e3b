"""``xmodal models``: list, describe and check models, and set the defaults."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import tomli_w

from xmodal_cli import paths, starter
from xmodal_cli.data.fingerprint import fingerprint
from xmodal_cli.data.registry import load_dataset
from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError, MissingData, UnknownName
from xmodal_cli.file_lock import write_lock
from xmodal_cli.inference.defaults import SECTION, TAGGER, default_models, read_settings
from xmodal_cli.inference.model_reports import ListedModel, ModelReport, list_model, report_model
from xmodal_cli.inference.models import ModelInfo, describe_model, model_names
from xmodal_cli.models.model_file import read_tensors, write_model
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.types import FeatureSource, ImageTextDataset

LOCK_SECONDS = 60.0  # another process writes the settings in milliseconds
SCORES = ("rsum", "cider", "map")  # of matchers, captioners and taggers


def set_default(what: str) -> tuple[str, str]:
    """Set the default model of its kind; returns (kind, name). Raises the errors of ``describe_model``, and BadData."""
    info = describe_model(what)
    if info.kind not in (*starter.NAMES, TAGGER):
        raise UnknownName.of("kind of model", info.kind, [*starter.NAMES, TAGGER])
    name, file = what if what == info.name else info.source, paths.config_file()
    with write_lock(file.with_name(f".{file.name}.lock"), str(file), wait_seconds=LOCK_SECONDS):
        settings = read_settings()
        defaults = dict(settings.get(SECTION, {}))
        defaults[info.kind] = name
        if name == starter.NAMES.get(info.kind):
            del defaults[info.kind]  # a later version of xmodal may bundle another model
        paths.write_text(file, tomli_w.dumps({**settings, SECTION: defaults}))
    return info.kind, name


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
    from xmodal_cli.features.feature_source import declare_source

    info = describe_model(what)
    source = info.header.features_from
    if source is None:
        raise ConfigError(
            f"{info.name} was not trained on precomputed features of a declared backbone",
            "declare it in training: xmodal train --features-from BACKBONE",
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


def list_models() -> list[ListedModel]:
    """A summary of every model; an unreadable model has an ``error``. Raises BadData."""
    defaults = default_models().values()
    return [list_model(name, name in defaults) for name in model_names()]


def model_info(what: str) -> ModelReport:
    """The header of a model. Raises as ``describe_model``."""
    return report_model(what)
