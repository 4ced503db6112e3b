"""Model soups: the mean of the weights of several models (Wortsman et al., arXiv 2203.05482).

A soup is as fast as one model. It works for models with a common initialization (fine-tuned from the same weights, or
epochs of one run), not for models trained from different random initializations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from xmodal_cli.errors import ConfigError, StorageError
from xmodal_cli.inference.model_average import AveragedModel, check_headers, mean_tensors, open_model
from xmodal_cli.models.model_file import write_model
from xmodal_cli.output_files import check_writable


@dataclass(frozen=True)
class AverageMember:
    """A model whose weights are part of the average."""

    name: str
    fingerprint: str


@dataclass(frozen=True)
class AverageReport:
    """The written file, its members, and its fingerprint."""

    file: Path
    average_of: tuple[AverageMember, ...]
    fingerprint: str


def average_models(models: Sequence[str], out: Path, force: bool = False) -> AverageReport:
    """Write the uniform mean of ``models`` to ``out``.

    Means are computed in float64 and stored in the dtype of the members; integer tensors must be equal. The header is
    that of the first model, without metrics and with the members under ``training.average_of``. Raises ConfigError for
    fewer than two models, IncompatibleFeatures for models that differ in more than their weights, StorageError if
    ``out`` exists and ``force`` is false, and the errors of finding and reading models.
    """
    if len(models) == 1:
        raise ConfigError("averaging needs at least two models", f"add a second model to {models[0]}")
    members = [open_model(model) for model in models]
    _check_target(out, force, members)
    for other in members[1:]:
        check_headers(members[0], other)
    first = members[0].header
    sources = tuple(AverageMember(m.name, m.header.fingerprint) for m in members)
    training = {**first.training, "average_of": [asdict(source) for source in sources]}
    written = write_model(out, replace(first, metrics={}, training=training), mean_tensors(members))
    return AverageReport(out, sources, written.fingerprint)


def _check_target(out: Path, force: bool, members: Sequence[AveragedModel]) -> None:
    if out.suffix != ".safetensors":
        raise ConfigError(f"{out} does not end with .safetensors", "give --out a name that ends with .safetensors")
    if any(out.resolve() == member.file for member in members):
        raise StorageError(f"{out} is one of the models to average", "choose another --out")
    if out.exists() and not force:
        raise StorageError(f"{out} already exists", "choose another --out, or use --force to overwrite it")
    check_writable(out)
