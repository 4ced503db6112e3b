"""Models by name: find the file, list the names, read the summary. Loads no weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xmodal_cli import starter
from xmodal_cli.errors import MissingData, UnknownName
from xmodal_cli.inference import zero_shot
from xmodal_cli.models.model_file import ModelHeader, read_header
from xmodal_cli.paths import MODEL_FILE, models_dir, runs_dir
from xmodal_cli.types import FeatureMeta


@dataclass(frozen=True)
class ModelSummary:
    """What a model file's header says, in short; for ``open_clip/...`` names what it would say.

    ``source`` finds the model again, from any folder; ``path`` is the file with the weights.
    """

    name: str
    path: Path
    kind: str
    fingerprint: str
    similarity: str
    embed_dim: int
    meta: FeatureMeta
    header: ModelHeader
    source: str


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


def describe_model(what: str) -> ModelSummary:
    """What the header says; no weights are read, torch is not imported but for a new ``open_clip/...`` name.

    Raises MissingData, BadModel, UnknownName, DownloadError.
    """
    if zero_shot.supports(what):
        name, file, header = zero_shot.describe(what)
        return _summary(name, file, header, name)
    file = find_model(what).resolve()
    name = file.parent.name if file.name == MODEL_FILE else file.stem
    source = name if starter.is_shipped(file) else str(file)  # the shipped ones move with every installation
    return _summary(name, file, read_header(file), source)


def _summary(name: str, file: Path, header: ModelHeader, source: str) -> ModelSummary:
    return ModelSummary(
        name=name,
        path=file,
        kind=header.kind,
        fingerprint=header.fingerprint,
        similarity=header.similarity,
        embed_dim=int(header.architecture["embed_dim"]),
        meta=header.meta,
        header=header,
        source=source,
    )
