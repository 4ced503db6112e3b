"""What ``xmodal models`` reports about a model: a line of the list, or its header."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xmodal_cli.errors import XmodalError
from xmodal_cli.inference.models import describe_model
from xmodal_cli.result_json import OPTIONAL


@dataclass(frozen=True)
class ListedModel:
    """A model in the list. ``rsum``, ``cider`` and ``map`` are val metrics; ``error`` is why it cannot be read."""

    name: str
    kind: str
    path: Path | None = field(default=None, metadata=OPTIONAL)
    similarity: str | None = None
    backbone: str | None = None
    data: str | None = None
    rsum: float | None = None
    cider: float | None = None
    map: float | None = None
    default: bool = False
    error: str | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class ModelReport:
    """The header of a model. ``vocabulary`` is the number of tokens or tags, ``xmodal`` the version of its writer.

    ``features`` are the image features that the model reads, ``metrics`` the val metrics by their flat names.
    """

    name: str
    path: Path
    kind: str
    similarity: str
    embed_dim: int
    backbone: str
    features: dict[str, Any]
    architecture: dict[str, Any]
    vocabulary: int
    data: str | None
    dataset: dict[str, Any]
    training: dict[str, Any]
    metrics: dict[str, float]
    fingerprint: str
    xmodal: str


def list_model(name: str, default: bool) -> ListedModel:
    """The summary of a model; ``default``: it is the default of its kind."""
    try:
        info = describe_model(name)
    except XmodalError as error:
        return ListedModel(name, "unreadable", error=error.message)
    metrics = info.header.metrics
    return ListedModel(
        info.name,
        info.kind,
        info.path,
        info.similarity,
        info.meta.backbone,
        info.header.dataset.get("name"),
        metrics.get("rsum"),
        metrics.get("cider"),
        metrics.get("map"),
        default,
    )


def report_model(what: str) -> ModelReport:
    """The header of a model, with the vocabulary size for the tokenizer. Raises as ``describe_model``."""
    info = describe_model(what)
    header = info.header
    return ModelReport(
        name=info.name,
        path=info.path,
        kind=info.kind,
        similarity=info.similarity,
        embed_dim=info.embed_dim,
        backbone=info.meta.backbone,
        features=header.backbone,
        architecture=header.architecture,
        vocabulary=header.architecture.get("vocab_size", 0),
        data=header.dataset.get("name"),
        dataset=header.dataset,
        training=header.training,
        metrics=header.metrics,
        fingerprint=info.fingerprint,
        xmodal=header.version,
    )
