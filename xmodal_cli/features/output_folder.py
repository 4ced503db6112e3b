"""Whether the features of a dataset can be written to a folder."""

from __future__ import annotations

from pathlib import Path

from xmodal_cli import output_files
from xmodal_cli.backbones.image_backbones import is_from_files
from xmodal_cli.config import FeaturesConfig
from xmodal_cli.errors import StorageError, XmodalError
from xmodal_cli.features.store import is_store, open_store
from xmodal_cli.types import ImageTextDataset


def check_output_folder(out: Path, dataset: ImageTextDataset, settings: FeaturesConfig) -> None:
    """Raise StorageError if ``out`` is not a folder, cannot be written, or has other files or features."""
    if out.exists() and not out.is_dir():
        raise StorageError(f"{out} is a file, not a folder", "choose another --out")
    output_files.check_output_folder(out)
    if not out.is_dir() or all(file.name.startswith(".") for file in out.iterdir()):  # a lock, drafts
        return
    if not is_store(out):
        raise StorageError(f"{out} has other files than features", "choose another folder for --out")
    try:
        summary = open_store(out).summary
    except XmodalError:  # an extraction that was interrupted, or a damaged one
        return
    meta = summary.meta
    backbone = settings.backbone.partition("@")[0] if is_from_files(settings.backbone) else settings.backbone
    same_backbone = (meta.backbone, meta.kind, meta.crops) == (backbone, settings.kind, settings.crops)
    if not same_backbone or not set(summary.ids) & set(dataset.ids):
        of = f"{len(summary.ids):,} images, {meta.kind} of {meta.backbone}"
        raise StorageError(f"{out} has other features ({of})", "choose another folder for --out, or delete that one")
