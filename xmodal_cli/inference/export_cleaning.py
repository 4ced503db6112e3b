"""Removes exports that no model can use anymore: the model was deleted, or has other weights now.

An export that another process writes is left alone. What a killed process left is removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xmodal_cli import atomic_folder, paths
from xmodal_cli.errors import StorageError, XmodalError
from xmodal_cli.file_errors import parse_json_object
from xmodal_cli.file_identity import size_and_mtime
from xmodal_cli.inference.models import find_model, model_names
from xmodal_cli.inference.onnx_folder import METADATA
from xmodal_cli.models.model_file import ModelHeader, read_header
from xmodal_cli.types import FeatureMeta

BACKBONES = "image-backbones"
KINDS = ("text-encoders", "image-encoders", "captioners", "taggers", BACKBONES)  # in cache/; backbones are last
_DRAFT = re.compile(r"\.(.+)\.build-[0-9a-f]{8}")


def backbone_fingerprint(meta: FeatureMeta) -> str:
    """The identity of the features in ``meta``: weights, kind, crops and preprocessing."""
    return hashlib.sha256(repr(meta.key()).encode()).hexdigest()


def remove_unused_exports(kept: Path) -> None:
    """Remove the exports of models that do not exist, except ``kept``, and unfinished exports. Ignores errors.

    A model exists if it is a run, in the folder of models, bundled, or at the path from where it was exported.
    """
    with contextlib.suppress(OSError, XmodalError):
        _remove_unused(kept)


def _remove_unused(kept: Path) -> None:
    folders = {kind: list(_exports(paths.cache_dir() / kind)) for kind in KINDS}
    known = _Known()  # after listing: a model of an export that was just written is seen
    for kind, exports in folders.items():
        for folder, metadata in exports:
            is_used = known.has_backbone(metadata) if kind == BACKBONES else known.has_model(metadata)
            if not is_used and folder != kept:
                _remove(folder)
        _remove_drafts(paths.cache_dir() / kind)


@dataclass
class _Known:
    """The fingerprints of existing models and of the backbones that they read."""

    models: set[str] = field(default_factory=set)
    backbones: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for name in model_names():
            with contextlib.suppress(XmodalError):
                self._add(read_header(find_model(name)))

    def has_model(self, metadata: dict[str, Any]) -> bool:
        """Whether the exported model exists, here or where it was exported from; its backbone is then known too."""
        fingerprint, source = str(metadata["fingerprint"]), metadata["source"]
        if fingerprint in self.models:
            return True
        file = Path(source["path"])
        if not file.is_file():
            return False
        try:
            header = read_header(file)
        except XmodalError:  # weights of open_clip, or not readable now
            if list(size_and_mtime(file) or ()) == source["stamp"]:
                self.models.add(fingerprint)
        else:
            self._add(header)
        return fingerprint in self.models

    def has_backbone(self, metadata: dict[str, Any]) -> bool:
        """Whether an existing model reads the features; models of open_clip have the fingerprint of their backbone."""
        meta = metadata.get("meta", {})
        return metadata["fingerprint"] in self.backbones or meta.get("fingerprint") in self.models

    def _add(self, header: ModelHeader) -> None:
        self.models.add(header.fingerprint)
        self.backbones.add(backbone_fingerprint(header.meta))


def _exports(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The exports in a folder and their metadata; unreadable ones are left out."""
    for export in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not export.name.startswith("."):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                metadata = parse_json_object((export / METADATA).read_bytes())
                str(metadata["fingerprint"]), str(metadata["source"]["path"]), metadata["source"]["stamp"]
                yield export, metadata


def _remove(folder: Path) -> None:
    """Remove an export in one step, unless another process writes it."""
    with contextlib.suppress(StorageError, OSError), atomic_folder.write_lock(folder, "export"):
        trash = folder.with_name(f".{folder.name}.build-00000000")
        folder.rename(trash)
        shutil.rmtree(trash, ignore_errors=True)


def _remove_drafts(parent: Path) -> None:
    names = {found[1] for path in parent.glob(".*") if (found := _DRAFT.fullmatch(path.name))}
    for name in names:
        with contextlib.suppress(StorageError), atomic_folder.write_lock(parent / name, "export"):
            atomic_folder.recover(parent / name)
