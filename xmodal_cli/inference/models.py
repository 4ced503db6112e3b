"""Models by name: find the file, list the names, read the header. Loads no weights, imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from xmodal_cli import starter
from xmodal_cli.config import Config, from_dict
from xmodal_cli.errors import BadModel, MissingData, UnknownName
from xmodal_cli.inference import zero_shot
from xmodal_cli.models.model_file import ModelHeader, read_header
from xmodal_cli.paths import MODEL_FILE, models_dir, runs_dir
from xmodal_cli.types import FeatureMeta


@dataclass(frozen=True)
class ModelInfo:
    """A model that was found, and its header; for ``open_clip/...`` names what a header would say.

    ``source`` finds the model again, from any folder; ``path`` is the file with the weights.
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
        """Length of a matcher's vectors."""
        return int(self.header.architecture["embed_dim"])

    @cached_property
    def meta(self) -> FeatureMeta:
        """The image features that the model reads."""
        return self.header.meta

    @cached_property
    def config(self) -> Config:
        """The settings that it was trained with. Raises ConfigError, UnknownName."""
        return from_dict(self.header.training)


def find_model(what: str) -> Path:
    """The model file that ``what`` means: a file, a run's folder, or the name of a run or a model, shipped ones too.

    Raises MissingData, UnknownName with the nearest name.
    """
    path = Path(what).expanduser()
    places = (path, path / MODEL_FILE, runs_dir() / what / MODEL_FILE, models_dir() / f"{what}.safetensors")
    for place in (*places, starter.file_of(what)):
        if place is not None and place.is_file():
            return place
    if (runs_dir() / what).is_dir() or path.is_dir():
        raise MissingData(f"the run {what} has no model yet", "let its training finish at least one epoch")
    if path.suffix in (".safetensors", ".npz") or len(path.parts) > 1:
        raise MissingData(f"there is no file {what}", "see `xmodal models list`")
    raise UnknownName.of("model", what, model_names())


def model_names() -> list[str]:
    """Names of the runs that have a model, of the model files at home, and of the shipped ones."""
    runs = {f.parent.name for f in runs_dir().glob(f"*/{MODEL_FILE}")}
    return sorted(runs | {f.stem for f in models_dir().glob("*.safetensors")} | set(starter.NAMES.values()))


def describe_model(what: str) -> ModelInfo:
    """Find a model and read its header; torch is not imported but for a new ``open_clip/...`` name.

    Raises MissingData, BadModel, UnknownName, DownloadError.
    """
    if zero_shot.supports(what):
        name, file, header = zero_shot.describe(what)
        return ModelInfo(name, file, name, header)
    file = find_model(what).resolve()
    name = file.parent.name if file.name == MODEL_FILE else file.stem
    source = name if starter.is_bundled(file) else str(file)  # the shipped ones move with every installation
    return ModelInfo(name, file, source, read_header(file))


def name_of(what: str | ModelInfo) -> str:
    """A model's name in messages: as it was given, else its own."""
    return what if isinstance(what, str) else what.name


def describe_as(kind: str, what: str | ModelInfo, hint: str) -> ModelInfo:
    """``describe_model`` for a model that must be of ``kind``; what was described before is taken as it is.

    Raises also BadModel, with ``hint``, for another kind.
    """
    info = describe_model(what) if isinstance(what, str) else what
    if info.kind != kind:
        raise BadModel(f"{name_of(what)} is a {info.kind}, not a {kind}", hint)
    return info
