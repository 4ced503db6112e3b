"""A model soup: one model whose weights are the mean of several models' weights (Wortsman et al., arXiv 2203.05482).

It costs no more to use than one of them. It works for models that share their start (fine-tuned from the same weights,
or epochs of one run); the mean of models that were trained from different random starts knows nothing.
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
    """Write the uniform mean of ``models`` to ``out``; gives what ``xmodal models average --json`` prints.

    Means are taken in float64 and stored as the members store them; whole numbers must agree. The header is the first
    one's, without its figures, with the members under ``training.average_of``. Raises ConfigError for fewer than two,
    IncompatibleFeatures for models that do not fit together, StorageError for an ``out`` that is there without
    ``force``, and what finding and reading models raises.
    """
    if len(models) == 1:
        raise ConfigError(f"{models[0]} alone has no average", "name two models or more")
    members = [_open(model) for model in models]
    _check_target(out, force, members)
    for other in members[1:]:
        _check_headers(members[0], other)
    first = members[0].header
    noted = [{"name": m.name, "fingerprint": m.header.fingerprint} for m in members]
    header = replace(first, metrics={}, training={**first.training, "average_of": noted})
    written = write_model(out, header, _mean(members))
    return {"file": str(out), "average_of": noted, "fingerprint": written.fingerprint}


def _open(what: str) -> _AveragedModel:
    file = find_model(what).resolve()
    return _AveragedModel(file.parent.name if file.name == MODEL_FILE else file.stem, file, read_header(file))


def _check_target(out: Path, force: bool, members: Sequence[_AveragedModel]) -> None:
    if out.suffix != ".safetensors":
        raise ConfigError(f"a model cannot be written as {out}", "end --out in .safetensors")
    if any(out.resolve() == member.file for member in members):
        raise StorageError(f"{out} is one of the models to average", "give --out another name")
    if out.exists() and not force:
        raise StorageError(f"{out} is there already", "give --out another name, or --force to write over it")


def _check_headers(first: _AveragedModel, other: _AveragedModel) -> None:
    """Raise IncompatibleFeatures that names the first thing in which two models differ."""
    a, b = first.header, other.header
    pairs = {
        "kind": (a.kind, b.kind),
        "similarity": (a.similarity, b.similarity),
        "features": (a.meta.key(), b.meta.key()),
        "tokenizer": (a.tokenizer, b.tokenizer),
        "architecture": (a.architecture, b.architecture),
    }
    differing = [name for name, (mine, theirs) in pairs.items() if mine != theirs]
    if differing:
        raise _misfit(first, other, f"they differ in {differing[0]}")


def _misfit(first: _AveragedModel, other: _AveragedModel, reason: str) -> IncompatibleFeatures:
    hint = "average runs of one preset on one dataset; `xmodal eval --ensemble` joins models of any kind"
    return IncompatibleFeatures(f"{first.name} and {other.name} cannot be averaged: {reason}", hint)


def _mean(members: Sequence[_AveragedModel]) -> dict[str, Tensor]:
    """The mean of all weights, one model in memory at a time beside the sum."""
    first = read_tensors(members[0].file)
    sums = {name: value.double() if value.is_floating_point() else value for name, value in first.items()}
    for member in members[1:]:
        others = read_tensors(member.file)
        if _layout(first) != _layout(others):
            raise _misfit(members[0], member, "their weights have other names, shapes or number formats")
        for name, value in others.items():
            if value.is_floating_point():
                sums[name] += value
            elif not value.equal(sums[name]):
                raise _misfit(members[0], member, f"the whole numbers of {name} differ")
    return {
        name: (total / len(members)).to(first[name].dtype) if total.is_floating_point() else total
        for name, total in sums.items()
    }


def _layout(tensors: dict[str, Tensor]) -> dict[str, tuple[Any, ...]]:
    return {name: (value.dtype, *value.shape) for name, value in tensors.items()}
