"""The model file: one safetensors file that is the whole model. Nothing is ever unpickled.

The header's metadata key ``xmodal`` is the JSON of a ModelHeader. Reading it needs neither torch nor the weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from xmodal_cli.config import upgrade
from xmodal_cli.errors import BadModel, MissingData
from xmodal_cli.paths import atomic_path
from xmodal_cli.types import FeatureMeta
from xmodal_cli.version import __version__

if TYPE_CHECKING:
    from torch import Tensor


FORMAT = 1
KEY = "xmodal"


@dataclass(frozen=True)
class ModelHeader:
    """Everything about a model but its weights.

    ``architecture`` is the ``[model]`` section of its configuration, with ``image_dim`` and ``vocab_size`` added;
    ``fingerprint`` is the sha256 of the weights, filled in when the file is written.
    """

    kind: str  # "matcher"
    architecture: dict[str, Any]
    tokenizer: str  # the JSON of a `tokenizers` tokenizer
    backbone: dict[str, Any]  # a FeatureMeta
    similarity: str
    training: dict[str, Any]  # the resolved configuration
    dataset: dict[str, Any]  # name, fingerprint, splits trained on
    metrics: dict[str, float] = field(default_factory=dict)
    fingerprint: str = ""
    version: str = __version__
    format: int = FORMAT

    @property
    def meta(self) -> FeatureMeta:
        """The features that the model reads."""
        return FeatureMeta(**self.backbone)


def write_model(file: Path, header: ModelHeader, tensors: Mapping[str, Tensor]) -> ModelHeader:
    """Write the file in one step; returns the header with its fingerprint. Raises StorageError."""
    from safetensors.torch import save_file

    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    header = replace(header, fingerprint=_fingerprint(plain))
    with atomic_path(file) as draft:
        save_file(plain, draft, metadata={KEY: json.dumps(asdict(header))})
    return header


def read_header(file: Path) -> ModelHeader:
    """The header alone. Raises MissingData, BadModel."""
    with _opened(file, "np") as opened:
        text = _header_text(opened, file)
    try:
        fields = json.loads(text)
        if fields.get("format") != FORMAT:
            raise BadModel(
                f"{file} has model format {fields.get('format')}, this xmodal reads {FORMAT}", "update xmodal"
            )
        header = ModelHeader(**_upgraded(fields))
        int(header.architecture["embed_dim"]), header.meta  # what every reader needs
        return header
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise BadModel(f"{file} has a header that cannot be read: {error}", "train or fetch the model again") from error


def _upgraded(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a header of an older version, with the new names of settings and components."""
    architecture = upgrade({"model": fields["architecture"]})["model"]
    return {**fields, "architecture": architecture, "training": upgrade(fields["training"])}


def read_tensors(file: Path, fingerprint: str | None = None) -> dict[str, Tensor]:
    """All weights, on the CPU. Raises MissingData, BadModel.

    ``fingerprint`` is that of a header read before: BadModel where the file was replaced since then.
    """
    with _opened(file, "pt") as opened:
        if fingerprint is not None and json.loads(_header_text(opened, file))["fingerprint"] != fingerprint:
            raise BadModel(f"{file} was replaced by another model just now", "run the command again")
        return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)


def _header_text(opened: Any, file: Path) -> str:
    text: str | None = (opened.metadata() or {}).get(KEY)
    if text is None:
        raise BadModel(f"{file} is not a model of xmodal's", "give a model that xmodal trained")
    return text


def _opened(file: Path, framework: str) -> Any:
    try:
        return safe_open(file, framework=framework)
    except FileNotFoundError as error:
        raise MissingData(f"there is no model file {file}", "see `xmodal models list`") from error
    except (SafetensorError, OSError) as error:
        reason = f"{file} is truncated or not a safetensors file ({error})"
        raise BadModel(reason, "train or fetch the model again") from error


def _fingerprint(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.view(-1).view(_bytes_type()).numpy().data)
    return digest.hexdigest()


def _bytes_type() -> Any:
    import torch

    return torch.uint8
