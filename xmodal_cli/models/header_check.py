"""Checks of the header of a model file: types of its fields, and sizes that its weights cannot have."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from xmodal_cli.dataset_types import check_feature_source
from xmodal_cli.errors import BadModel, XmodalError, missing_package
from xmodal_cli.file_errors import reason_of

HINT = "train or download the model again"
SIZES = ("image_dim", "embed_dim", "vocab_size")  # every architecture has the second
MAX_SIZE = 1 << 22  # of a dimension; the largest vocabularies have a million words
MAX_PARTS = 256  # layers, blocks
_TYPES: dict[str, type] = {
    **dict.fromkeys(("kind", "tokenizer", "similarity", "fingerprint", "version"), str),
    **dict.fromkeys(("architecture", "backbone", "training", "dataset", "metrics"), dict),
}
_TOWER_TYPES: dict[str, dict[str, type]] = {
    "text": {"backbone": str, "fingerprint": str, "layers": int, "tuned": bool},
    "image": {"backbone": str, "fingerprint": str, "kind": str, "blocks": int},
}
_FEATURE_TYPES: dict[str, type] = {"backbone": str, "fingerprint": str, "kind": str, "dim": int, "crops": int}


@contextlib.contextmanager
def header_errors(file: Path) -> Iterator[None]:
    """Raise every exception as a BadModel about the header of ``file``."""
    try:
        yield
    except XmodalError as error:
        if str(file) in error.message:
            raise
        raise BadModel(f"{file} has an invalid header: {error.message}", error.hint or HINT) from error
    except Exception as error:  # of any type: the header may have any values
        if missing_package(error):
            raise
        raise BadModel(f"{file} has an invalid header: {reason_of(error)}", HINT) from error


def check_fields(fields: Mapping[str, Any]) -> None:
    """Check the types of the fields of a header. Raises ValueError."""
    _check_types(fields, _TYPES, "")
    _check_types(fields.get("backbone", {}), _FEATURE_TYPES, "backbone.")
    if not isinstance(fields["backbone"].get("preprocessing", {}), dict):
        raise ValueError("backbone.preprocessing is not a table")
    architecture = fields["architecture"]
    for name, kind in (("name", str), ("args", dict)):
        if not isinstance(architecture.get(name, kind()), kind):
            raise ValueError(f"architecture.{name} is not {kind.__name__}")
    for name in SIZES:
        size = architecture["embed_dim"] if name == "embed_dim" else architecture.get(name, 0)
        if not _is_int(size) or size < 0:
            raise ValueError(f"architecture.{name} is not a size")
    _check_sizes(architecture, "architecture")
    _check_towers(architecture.get("towers", {}))
    for name, value in fields.get("metrics", {}).items():
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"metrics.{name} is not a number")
    if not isinstance(fields.get("dataset", {}).get("name", ""), str):
        raise ValueError("dataset.name is not text")
    if fields.get("dataset", {}).get("features_from") is not None:
        check_feature_source(fields["dataset"]["features_from"], "dataset.features_from")


def check_parameters(num_built: int, num_stored: int) -> None:
    """Raise ValueError for an architecture of many more parameters than the file has, before they are allocated."""
    if num_built > 4 * num_stored + 10_000_000:
        raise ValueError(f"its architecture has {num_built:,} parameters, and the file has {num_stored:,}")


def _check_towers(towers: Any) -> None:
    if not isinstance(towers, dict) or not all(isinstance(tower, dict) for tower in towers.values()):
        raise ValueError("architecture.towers is not a table of tables")
    for side, tower in towers.items():
        for key, kind in _TOWER_TYPES.get(side, {}).items():
            if key not in tower:
                raise ValueError(f"architecture.towers.{side} has no {key!r}")
            if not isinstance(tower[key], kind) or (isinstance(tower[key], bool) and kind is not bool):
                raise ValueError(f"architecture.towers.{side}.{key} is not {kind.__name__}")


def _check_types(fields: Mapping[str, Any], types: Mapping[str, type], prefix: str) -> None:
    for name, kind in types.items():
        value = fields.get(name)
        if name in fields and (not isinstance(value, kind) or isinstance(value, bool)):
            raise ValueError(f"{prefix}{name} is {str(value)[:40]!r}, not {kind.__name__}")


def _check_sizes(value: Any, where: str) -> None:
    """Check all integers in the tables of an architecture."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_sizes(inner, f"{where}.{key}")
    elif isinstance(value, list):
        for inner in value:
            _check_sizes(inner, where)
    elif _is_int(value):
        is_count = any(part in where.rpartition(".")[2] for part in ("layer", "block"))
        if abs(value) > (MAX_PARTS if is_count else MAX_SIZE):
            raise ValueError(f"{where} is {value}")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
