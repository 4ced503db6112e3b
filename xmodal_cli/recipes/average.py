"""Model soups: the mean of the weights of several models (Wortsman et al., arXiv 2203.05482).

A soup is as fast as one model. It works for models with a common initialization (fine-tuned from the same weights, or
epochs of one run), not for models trained from different random initializations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodal_cli.errors import ConfigError, IncompatibleFeatures, StorageError
from xmodal_cli.inference.models import find_model
from xmodal_cli.models.model_file import ModelHeader, read_header, read_tensors, write_model
from xmodal_cli.paths import MODEL_FILE

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class _AveragedModel:
    name: str
    file: Path
    header: ModelHeader


def average_models(models: Sequence[str], out: Path, force: bool = False) -> dict[str, Any]:
    """Write the uniform mean of ``models`` to ``out``; returns the output of ``xmodal models average --json``.

    Means are computed in float64 and stored in the dtype of the members; integer tensors must be equal. The header is
    that of the first model, without metrics and with the members under ``training.average_of``. Raises ConfigError for
    fewer than two models, IncompatibleFeatures for models that differ in more than their weights, StorageError if
    ``out`` exists and ``force`` is false, and the errors of finding and reading models.
    """
    if len(models) == 1:
        raise ConfigError("averaging needs at least two models", f"add a second model to {models[0]}")
    members = [_open(model) for model in models]
    _check_target(out, force, members)
    for other in members[1:]:
        _check_headers(members[0], other)
    first = members[0].header
    sources = [{"name": m.name, "fingerprint": m.header.fingerprint} for m in members]
    header = replace(first, metrics={}, training={**first.training, "average_of": sources})
    written = write_model(out, header, _mean(members))
    return {"file": str(out), "average_of": sources, "fingerprint": written.fingerprint}


def _open(what: str) -> _AveragedModel:
    file = find_model(what).resolve()
    return _AveragedModel(file.parent.name if file.name == MODEL_FILE else file.stem, file, read_header(file))


def _check_target(out: Path, force: bool, members: Sequence[_AveragedModel]) -> None:
    if out.suffix != ".safetensors":
        raise ConfigError(f"{out} does not end with .safetensors", "give --out a name that ends with .safetensors")
    if any(out.resolve() == member.file for member in members):
        raise StorageError(f"{out} is one of the models to average", "choose another --out")
    if out.exists() and not force:
        raise StorageError(f"{out} already exists", "choose another --out, or use --force to overwrite it")


def _check_headers(first: _AveragedModel, other: _AveragedModel) -> None:
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


def _mismatch(first: _AveragedModel, other: _AveragedModel, reason: str) -> IncompatibleFeatures:
    hint = "average runs of one preset on one dataset; `xmodal eval --ensemble` combines different models"
    return IncompatibleFeatures(f"{first.name} and {other.name} cannot be averaged: {reason}", hint)


def _mean(members: Sequence[_AveragedModel]) -> dict[str, Tensor]:
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
