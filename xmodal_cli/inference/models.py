"""Models by name: find the file, list the names, read the header. Does not load weights or import torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from xmodal_cli import starter
from xmodal_cli.backbones.hugging_face_names import is_hugging_face_name, is_repo
from xmodal_cli.config import Config, from_dict
from xmodal_cli.device import Compute
from xmodal_cli.errors import BadModel, ConfigError, MissingData, UnknownName, XmodalError
from xmodal_cli.file_identity import reason_not_regular
from xmodal_cli.inference import zero_shot
from xmodal_cli.models.header_check import header_errors
from xmodal_cli.models.model_file import ModelHeader, read_header
from xmodal_cli.paths import CONFIG_FILE, MODEL_FILE, expand_home, models_dir, runs_dir
from xmodal_cli.shell_commands import model_word, xmodal_command
from xmodal_cli.types import PRECOMPUTED, FeatureMeta


@dataclass(frozen=True)
class ModelInfo:
    """A model and its header; ``open_clip/...`` names have an equivalent header.

    ``source`` identifies the model from any working folder; ``path`` is the file with the weights.
    """

    name: str
    path: Path
    source: str
    header: ModelHeader

    @property
    def kind(self) -> str:
        """``matcher`` or ``captioner``."""
        return self.header.kind

    @property
    def fingerprint(self) -> str:
        """sha256 of the weights."""
        return self.header.fingerprint

    @property
    def similarity(self) -> str:
        """The name of a matcher's similarity, such as ``cosine``; empty for a captioner."""
        return self.header.similarity

    @property
    def embed_dim(self) -> int:
        """Dimension of a matcher's vectors."""
        return int(self.header.architecture["embed_dim"])

    @property
    def word(self) -> str:
        """What a command takes for it, from any working folder: its name, or its path if that does not find it."""
        return model_word(self.name, self.source)

    @cached_property
    def meta(self) -> FeatureMeta:
        """The image features that the model reads."""
        return self.header.meta

    @property
    def from_precomputed(self) -> bool:
        """Whether it was trained on the precomputed features of a dataset, of a declared or unknown backbone."""
        return self.meta.backbone == PRECOMPUTED or self.header.features_from is not None

    @cached_property
    def config(self) -> Config:
        """The settings of its training. Raises BadModel."""
        with header_errors(self.path):
            return from_dict(self.header.training)


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory, with torch or as an export: the base of matchers, captioners and taggers."""

    info: ModelInfo
    compute: Compute

    @property
    def name(self) -> str:
        """The name of the run or of the file."""
        return self.info.name

    @property
    def meta(self) -> FeatureMeta:
        """The image features it reads."""
        return self.info.meta


def find_model(what: str) -> Path:
    """The model file of ``what``: a file, the folder of a run, or the name of a run or a model, also bundled ones.

    Raises MissingData, UnknownName with the closest name.
    """
    if not what:
        raise MissingData("the name of a model is empty", "see `xmodal models list` for names")
    path = expand_home(what)
    candidates = (path, path / MODEL_FILE, runs_dir() / what / MODEL_FILE, models_dir() / f"{what}.safetensors")
    for file in (*candidates, starter.file_of(what)):
        if file is not None and file.is_file():
            return file
    raise _not_found(what, path)


def _not_found(what: str, path: Path) -> XmodalError:
    """The error for a name without a model file."""
    if is_hugging_face_name(what):
        hint = f"to caption photos: {xmodal_command('caption', 'PHOTO', '--model', what)}"
        return ConfigError(f"{what} is a Hugging Face model, which only `xmodal caption` reads", hint)
    run = runs_dir() / what
    if run.is_dir() or (path / CONFIG_FILE).is_file():
        return MissingData(f"the run {what} has no model yet", "train at least one epoch")
    if path.is_dir():
        hint = "give a run or a model file: see `xmodal models list`"
        return MissingData(f"the folder {what} has neither a {MODEL_FILE}, as runs have, nor a config.json", hint)
    if os.path.lexists(path):
        return MissingData(f"{what} {reason_not_regular(path)}", "give a run or a model file: see `xmodal models list`")
    if path.suffix in (".safetensors", ".npz") or "/" in what:
        of_hub = is_repo(what) and path.suffix not in (".safetensors", ".npz")
        captioners = f"; captioners of the Hugging Face hub have names such as hf/{what}" if of_hub else ""
        return MissingData(f"file not found: {what}", f"see `xmodal models list`{captioners}")
    return UnknownName.of("model", what, model_names())


def model_names() -> list[str]:
    """Names of runs with a model, of model files in ``XMODAL_HOME``, and of bundled models."""
    runs = {f.parent.name for f in runs_dir().glob(f"*/{MODEL_FILE}")}
    return sorted(runs | {f.stem for f in models_dir().glob("*.safetensors")} | set(starter.NAMES.values()))


def describe_model(what: str) -> ModelInfo:
    """Find a model and read its header; torch is only imported for a new ``open_clip/...`` name.

    Raises MissingData, BadModel, UnknownName, DownloadError.
    """
    if zero_shot.supports(what):
        name, file, header = zero_shot.describe(what)
        return ModelInfo(name, file, name, header)
    file = find_model(what).resolve()
    name = file.parent.name if file.name == MODEL_FILE else file.stem
    source = name if starter.is_bundled(file) else str(file)  # the path of bundled models depends on the installation
    return ModelInfo(name, file, source, read_header(file))


def name_of(what: str | ModelInfo) -> str:
    """The name of a model in messages."""
    return what if isinstance(what, str) else what.name


def describe_as(kind: str, what: str | ModelInfo, hint: str) -> ModelInfo:
    """``describe_model`` for a model of ``kind``; a ``ModelInfo`` is only checked.

    Raises like ``describe_model``, and BadModel with ``hint`` for another kind.
    """
    info = describe_model(what) if isinstance(what, str) else what
    if info.kind != kind:
        raise BadModel(f"{name_of(what)} is a {info.kind}, not a {kind}", hint)
    return info
