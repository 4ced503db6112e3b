"""The model file: one safetensors file that holds the whole model. Nothing is unpickled.

The header's metadata key ``xmodal`` is the JSON of a ModelHeader. Reading it needs neither torch nor the weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodal_cli import json_checksum
from xmodal_cli.config import upgrade
from xmodal_cli.errors import BadModel, MissingData, missing_package
from xmodal_cli.file_errors import access_hint, open_safetensors, reading, reason_of
from xmodal_cli.models.header_check import HINT, check_fields, header_errors
from xmodal_cli.models.tensor_digest import digest_of
from xmodal_cli.paths import atomic_path
from xmodal_cli.types import FeatureMeta, FeatureSource
from xmodal_cli.version import __version__

if TYPE_CHECKING:
    from torch import Tensor


FORMAT = 1
KEY = "xmodal"


@dataclass(frozen=True)
class ModelHeader:
    """Everything about a model except its weights.

    ``architecture`` is the ``[model]`` section of its configuration, plus ``image_dim`` and ``vocab_size``;
    ``fingerprint`` is the sha256 of the weights, set when the file is written.
    """

    kind: str  # "matcher" or "captioner"
    architecture: dict[str, Any]
    tokenizer: str  # the JSON of a `tokenizers` tokenizer
    backbone: dict[str, Any]  # a FeatureMeta
    similarity: str
    training: dict[str, Any]  # the resolved configuration
    dataset: dict[str, Any]  # name, fingerprint, splits trained on, features_from if it was declared
    metrics: dict[str, float] = field(default_factory=dict)
    fingerprint: str = ""
    version: str = __version__
    format: int = FORMAT

    @property
    def meta(self) -> FeatureMeta:
        """The record of the model's input features."""
        return FeatureMeta(**self.backbone)

    @property
    def features_from(self) -> FeatureSource | None:
        """The declared backbone of the precomputed features that the model was trained on; None for images."""
        declared = self.dataset.get("features_from")
        return FeatureSource(**declared) if declared else None


def write_model(file: Path, header: ModelHeader, tensors: Mapping[str, Tensor]) -> ModelHeader:
    """Write the file atomically and return the header with its fingerprint. Raises StorageError."""
    from safetensors.torch import save_file

    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    header = replace(header, fingerprint=digest_of(contiguous))
    with atomic_path(file) as draft:
        save_file(contiguous, draft, metadata={KEY: json_checksum.to_text(asdict(header))})
    return header


def read_header(file: Path) -> ModelHeader:
    """Read only the header. Raises MissingData, BadModel."""
    with _open(file, "np") as opened:
        text = _header_text(opened, file)
    with header_errors(file):
        fields = json_checksum.parse(text)
        if fields.get("format") != FORMAT:
            raise BadModel(
                f"{file} has model format {fields.get('format')}, but this version reads format {FORMAT}",
                "update xmodal",
            )
        check_fields(fields)
        header = ModelHeader(**_upgraded(fields))
        header.meta  # noqa: B018 - raises TypeError for missing fields
        return header


def num_elements(file: Path) -> int:
    """The number of all elements of the tensors of a model file, without reading them. Raises MissingData, BadModel."""
    return sum(math.prod(shape) for shape in tensor_shapes(file).values())


def tensor_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors of a model file, which are not read. Raises MissingData, BadModel."""
    with _open(file, "np") as opened:
        return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118 (not a dict)


def _upgraded(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a header of an older version, with the new names of settings and components."""
    architecture = upgrade({"model": fields["architecture"]})["model"]
    return {**fields, "architecture": architecture, "training": upgrade(fields["training"])}


def read_tensors(file: Path, fingerprint: str | None = None) -> dict[str, Tensor]:
    """Read all weights, to the CPU, and compare their sha256 with the header. Raises MissingData, BadModel.

    ``fingerprint`` is from a header that was read before; BadModel if the file was replaced since then.
    """
    with _open(file, "pt") as opened, reading(file, HINT, BadModel):
        stored = json_checksum.parse(_header_text(opened, file)).get("fingerprint")
        if fingerprint is not None and stored != fingerprint:
            raise BadModel(f"{file} was replaced while it was being read", "run the command again")
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
        if stored != digest_of(tensors):
            raise ValueError("the checksum of its weights is wrong")
        return tensors


def _header_text(opened: Any, file: Path) -> str:
    with reading(file, HINT, BadModel):
        text: str | None = (opened.metadata() or {}).get(KEY)
    if text is None:
        raise BadModel(f"{file} is not an xmodal model", "use a model file that xmodal wrote")
    return text


def _open(file: Path, framework: str) -> Any:
    try:
        return open_safetensors(file, framework)
    except FileNotFoundError as error:
        raise MissingData(f"model file {file} does not exist", "see `xmodal models list`") from error
    except Exception as error:  # a folder, a file that is too short, no permission
        if missing_package(error):
            raise
        if hint := access_hint(error):
            raise BadModel(f"{file} cannot be read: {reason_of(error)}", hint) from error
        raise BadModel(f"{file} is truncated or not a safetensors file ({reason_of(error)})", HINT) from error
