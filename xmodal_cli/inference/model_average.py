"""The mean of the weights of several models, and the checks that they can be averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodal_cli.errors import IncompatibleFeatures
from xmodal_cli.inference.models import find_model
from xmodal_cli.models.model_file import ModelHeader, read_header, read_tensors
from xmodal_cli.paths import MODEL_FILE

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class AveragedModel:
    """One of the models, without its weights."""

    name: str
    file: Path
    header: ModelHeader


def open_model(what: str) -> AveragedModel:
    """Find a model and read its header. Raises the errors of ``find_model`` and ``read_header``."""
    file = find_model(what).resolve()
    return AveragedModel(file.parent.name if file.name == MODEL_FILE else file.stem, file, read_header(file))


def check_headers(first: AveragedModel, other: AveragedModel) -> None:
    """Raise IncompatibleFeatures, with the first property in which two models differ."""
    a, b = first.header, other.header
    pairs = {
        "kind": (a.kind, b.kind),
        "similarity": (a.similarity, b.similarity),
        "features": (a.meta.key(), b.meta.key()),
        "tokenizer": (a.tokenizer, b.tokenizer),
        "architecture": (a.architecture, b.architecture),
    }
    differing = [name for name, (value, other_value) in pairs.items() if value != other_value]
    if differing:
        raise _mismatch(first, other, f"they differ in {differing[0]}")


def _mismatch(first: AveragedModel, other: AveragedModel, reason: str) -> IncompatibleFeatures:
    hint = "average runs of one preset on one dataset; --ensemble of `xmodal eval` combines different ones"
    return IncompatibleFeatures(f"{first.name} and {other.name} cannot be averaged: {reason}", hint)


def mean_tensors(members: Sequence[AveragedModel]) -> dict[str, Tensor]:
    """The mean of all weights, with one model in memory at a time besides the sum."""
    first = read_tensors(members[0].file)
    sums = {name: value.double() if value.is_floating_point() else value for name, value in first.items()}
    for member in members[1:]:
        tensors = read_tensors(member.file)
        if _layout(first) != _layout(tensors):
            raise _mismatch(members[0], member, "their weights differ in names, shapes or dtypes")
        for name, value in tensors.items():
            if value.is_floating_point():
                sums[name] += value
            elif not value.equal(sums[name]):
                raise _mismatch(members[0], member, f"the integer tensor {name} differs")
    return {
        name: (total / len(members)).to(first[name].dtype) if total.is_floating_point() else total
        for name, total in sums.items()
    }


def _layout(tensors: dict[str, Tensor]) -> dict[str, tuple[Any, ...]]:
    return {name: (value.dtype, *value.shape) for name, value in tensors.items()}
