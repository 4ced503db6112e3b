"""Models by name: find them, describe them, load them ready to embed pictures' features and sentences.

A name is a run, a file, or ``open_clip/ARCH/TAG``, which needs no training (``zero_shot.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodal_cli import starter
from xmodal_cli.errors import BadModel, MissingData, UnknownName, XmodalError
from xmodal_cli.models.storage.modelfile import ModelHeader, read_header, read_tensors
from xmodal_cli.paths import models_dir, runs_dir
from xmodal_cli.recipes import zero_shot
from xmodal_cli.recipes.defaults import default_models
from xmodal_cli.types import FeatureMeta

if TYPE_CHECKING:
    import numpy as np
    import torch

    from xmodal_cli.models.storage.tokenizer import Tokenizer
    from xmodal_cli.training.batches import TakeTokens

MODEL_FILE = "model.safetensors"
TEXT_BATCH = 512  # sentences encoded at once
IMAGE_BATCH = 4096  # vectors projected at once; of pictures that are many cells, as many as have that many cells


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


@dataclass(frozen=True)
class LoadedMatcher:
    """A matcher ready for use, on ``device``, computing in ``dtype``."""

    summary: ModelSummary
    model: Any  # an nn.Module that is a types.Matcher
    tokenizer: Tokenizer
    device: str
    dtype: torch.dtype

    @property
    def name(self) -> str:
        """The run's or the file's name."""
        return self.summary.name

    @property
    def fingerprint(self) -> str:
        """sha256 of the weights."""
        return self.summary.fingerprint

    @property
    def meta(self) -> FeatureMeta:
        """The image features it reads."""
        return self.summary.meta

    @property
    def similarity(self) -> str:
        """``cosine`` or ``order``."""
        return self.summary.similarity

    @property
    def embed_dim(self) -> int:
        """Length of its vectors."""
        return self.summary.embed_dim

    def embed_texts(self, sentences: Sequence[str]) -> np.ndarray:
        """(sentences, embed_dim) float32, in the order given."""
        from xmodal_cli.recipes.splits import token_ids

        return embed_tokens(self.model, *token_ids(sentences, self.tokenizer), self.device, self.dtype)

    def embed_features(self, values: np.ndarray) -> np.ndarray:
        """(images, dim) or (images, cells, dim) features -> (images, embed_dim) float32."""
        return embed_features(self.model, values, self.device, self.dtype)


def embed_tokens(
    model: Any, take_tokens: TakeTokens, lengths: torch.Tensor, device: str, dtype: torch.dtype
) -> np.ndarray:
    """Captions and their (captions,) int64 lengths -> (captions, embed_dim) float32; like lengths go together."""
    import numpy as np
    import torch

    from xmodal_cli.training.loop import autocast

    vectors = np.zeros((len(lengths), model.embed_dim), dtype=np.float32)
    with torch.inference_mode(), autocast(device, dtype):
        for rows in torch.split(lengths.argsort(stable=True), TEXT_BATCH) if len(lengths) else ():
            batch = take_tokens(rows, int(lengths[rows].max())).to(device)
            vectors[rows.numpy()] = model.encode_text(batch, lengths[rows].to(device)).float().cpu().numpy()
    return vectors


def embed_features(model: Any, values: np.ndarray, device: str, dtype: torch.dtype) -> np.ndarray:
    """(images, dim) or (images, cells, dim) -> (images, embed_dim) float32."""
    import numpy as np
    import torch

    from xmodal_cli.training.loop import autocast

    parts = [np.zeros((0, model.embed_dim), dtype=np.float32)]
    with torch.inference_mode(), autocast(device, dtype):
        size = max(1, IMAGE_BATCH // (values.shape[1] if values.ndim == 3 else 1))
        for start in range(0, len(values), size):
            batch = torch.from_numpy(np.array(values[start : start + size])).to(device)
            parts.append(model.encode_image(batch).float().cpu().numpy())
    return np.concatenate(parts)


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
    if zero_shot.claims(what):
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


def load_matcher(what: str, device: str = "auto", precision: str = "auto") -> LoadedMatcher:
    """A matcher with its weights, in evaluation mode. Raises MissingData, BadModel, UnknownName, DownloadError."""
    from xmodal_cli.recipes.device import pick_device, pick_dtype

    summary = describe_model(what)
    if summary.kind != "matcher":
        raise BadModel(f"{what} is a {summary.kind}, not a matcher", "`xmodal models list` shows the matchers")
    model, tokenizer = zero_shot.build(summary.name) if zero_shot.claims(what) else _from_file(summary)
    place = pick_device(device)
    return LoadedMatcher(summary, model.eval().to(place), tokenizer, place, pick_dtype(precision, place))


def _from_file(summary: ModelSummary) -> tuple[Any, Tokenizer]:
    from xmodal_cli.models._towers import load_own_tensors
    from xmodal_cli.models.storage.tokenizer import Tokenizer
    from xmodal_cli.recipes.assembly import build_matcher
    from xmodal_cli.recipes.towers import load_towers

    starter.check(summary.path)
    architecture = summary.header.architecture
    model = build_matcher(architecture, load_towers(summary.name, architecture))
    try:
        load_own_tensors(model, read_tensors(summary.path))
    except RuntimeError as error:
        raise BadModel(f"{summary.path} does not hold the weights its header promises", str(error)[:200]) from error
    return model, Tokenizer.from_json(summary.header.tokenizer)


def list_models() -> list[dict[str, Any]]:
    """A few facts about every model by name; one that cannot be read carries its ``error``. Raises BadData."""
    defaults = default_models().values()
    entries: list[dict[str, Any]] = []
    for name in model_names():
        try:
            facts = model_info(name)
        except XmodalError as error:
            blank = dict.fromkeys(("similarity", "backbone", "data", "rsum", "cider"))
            entries.append({"name": name, "kind": "unreadable", **blank, "default": False, "error": error.message})
            continue
        short = {key: facts[key] for key in ("name", "path", "kind", "similarity", "backbone", "data")}
        scores = {score: facts["metrics"].get(score) for score in ("rsum", "cider")}
        entries.append({**short, **scores, "default": name in defaults})
    return entries


def model_info(what: str) -> dict[str, Any]:
    """All that the header says, ready for JSON; the tokenizer is given by its size. Raises as ``describe_model``."""
    summary = describe_model(what)
    header = summary.header
    return {
        "name": summary.name,
        "path": str(summary.path),
        "kind": summary.kind,
        "similarity": summary.similarity,
        "embed_dim": summary.embed_dim,
        "backbone": summary.meta.backbone,
        "features": header.backbone,
        "architecture": header.architecture,
        "vocabulary": header.architecture["vocab_size"],
        "data": header.dataset.get("name"),
        "dataset": header.dataset,
        "training": header.training,
        "metrics": header.metrics,
        "fingerprint": summary.fingerprint,
        "xmodal": header.version,
    }
